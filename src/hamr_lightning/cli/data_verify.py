"""``hamr-data verify``: check a whole data set."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from hamr_lightning.cli.common import FOUND_WRONG
from hamr_lightning.cli.data_set import add_workers, check_dataset, progress_bar
from hamr_lightning.errors import UserError

if TYPE_CHECKING:
    from hamr_lightning.data.verification import Verification

_SHOWN: Final = 5
_SPLITS: Final = ("train", "val")
_FORMATS: Final = (".json", ".txt")


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    verify = commands.add_parser(
        "verify",
        description="Read every sample of a data set and check it: files, numbers, key points in the picture, 3D "
        "against 2D, lengths of bones, masks. Exit status 1 if anything is wrong. Other options are arguments of the "
        "data set: --data.KEY VALUE.",
        allow_abbrev=False,
    )
    verify.set_defaults(run=_verify)
    verify.add_argument("name", help="data set, such as rhd")
    verify.add_argument("root", nargs="?", help="its folder")
    verify.add_argument("--split", choices=_SPLITS, help="default: all that it has")
    verify.add_argument("--output", type=Path, metavar="PATH", help="file for all that is wrong, .json or .txt")
    add_workers(verify)


def _verify(options: argparse.Namespace, overrides: list[str]) -> int:
    from hamr_lightning.data.verification import verify

    _check_output(options.output)
    given = {} if options.root is None else {"root": options.root}
    component, arguments = check_dataset(options.name, given, overrides, ("split",))
    _check_root(arguments)
    reports = [
        verify(partial(component, split=split, **arguments), split, options.workers, progress_bar(f"{split:5}"))
        for split in _splits(options.name, component, options.split)
    ]
    print("\n".join(_lines(options.name, reports, _SHOWN)))
    if options.output is not None:
        _write(options.output, options.name, reports)
        print(f"report: {options.output}")
    return FOUND_WRONG if any(report.findings for report in reports) else 0


def _check_output(path: Path | None) -> None:
    if path is not None and (path.suffix not in _FORMATS or path.is_dir()):
        raise UserError(f"--output must be a file that ends in {' or '.join(_FORMATS)}, got {path}")


def _check_root(arguments: dict[str, Any]) -> None:
    from hamr_lightning.data.files import resolve_root

    if "root" in arguments:
        try:
            resolve_root(arguments["root"])
        except ValueError as error:
            raise UserError(f"data.root: {error}") from error


def _splits(name: str, component: type, wanted: str | None) -> Sequence[str]:
    from hamr_lightning.arguments import parameters

    annotated = get_args(parameters(component)["split"].plain_type)
    known = [split for split in _SPLITS if not annotated or split in annotated]
    if wanted is not None and wanted not in known:
        raise UserError(f"{name} has no split {wanted!r}, only {', '.join(known)}")
    return known if wanted is None else [wanted]


def _lines(name: str, reports: Sequence["Verification"], shown: int) -> Iterator[str]:
    for report in reports:
        yield f"{name}, {report.split}: {report.samples} samples{_compare(report)}"
        findings = sorted(report.findings, key=lambda finding: finding.kind)
        for kind, group in groupby(findings, key=lambda finding: finding.kind):
            alike = list(group)
            yield f"  {kind}: {len(alike)}"
            yield from (f"    {finding.source}: {finding.message}" for finding in alike[:shown])
            if len(alike) > shown:
                yield f"    and {len(alike) - shown} more, which --output lists"
    wrong = sum(len(report.findings) for report in reports)
    yield f"{wrong} found wrong" if wrong else "nothing found wrong"


def _compare(report: "Verification") -> str:
    if report.published is None or not report.samples:
        return ""
    if report.samples == report.published:
        return ", as published"
    copy = "smaller" if report.samples < report.published else "larger"
    return f", where {report.published} are published: a {copy} copy"


def _write(path: Path, name: str, reports: Sequence["Verification"]) -> None:
    if path.suffix == ".json":
        content = json.dumps({"dataset": name, "splits": [asdict(report) for report in reports]}, indent=1)
    else:
        content = "\n".join(_lines(name, reports, max(len(report.findings) for report in reports)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written: {error.strerror}") from error
