"""The commands. Heavy modules are imported when a command needs them, so that ``--help`` answers at once."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hamr_lightning.errors import UserError
from hamr_lightning.recipe_check import SECTIONS
from hamr_lightning.recipe_source import shipped_recipes
from hamr_lightning.registry import nearest

if TYPE_CHECKING:
    from hamr_lightning.fit import FitResult
    from hamr_lightning.recipe import Recipe

_MISTAKE: Final = 2
_SIGNALLED: Final = 128
_OVERRIDES: Final = """\
Every other option changes the recipe: --losses.cam.weight 0.2, --losses.cam.weight=0.2, --losses.seg null,
--data.name rhd --data.root DIR. The key is the dotted path of a leaf, the value is YAML."""


def fit_command(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-fit``.

    Returns:
        The exit status: 0, 2 after a mistake of the user's, 130 or 143 if SIGINT or SIGTERM stopped it.
    """
    return _guarded("hamr-fit", _fit, sys.argv[1:] if arguments is None else list(arguments))


def data_command(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-data``; the exit status is as of :func:`fit_command`."""
    return _guarded("hamr-data", _data, sys.argv[1:] if arguments is None else list(arguments))


def _guarded(command: str, run: Callable[[list[str]], int], given: list[str]) -> int:
    try:
        return run(given)
    except UserError as error:
        print(f"{command}: error:\n{error}" if "\n" in str(error) else f"{command}: error: {error}", file=sys.stderr)
        return _MISTAKE
    except KeyboardInterrupt:
        return _SIGNALLED + 2


def _fit(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "hamr-fit",
        description="Train the model of a recipe. " + _OVERRIDES,
        epilog=f"Recipes that ship with the package: {', '.join(shipped_recipes())}.",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", required=True, metavar="PATH|NAME", help="recipe file, or name of a shipped recipe")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the run (default: new, in runs/NAME)")
    parser.add_argument(
        "--resume",
        metavar="PATH|auto",
        help="checkpoint to go on from; auto: the last one in --output, or of the recipe's newest run, if there is any",
    )
    parser.add_argument("--print-recipe", action="store_true", help="show the resolved recipe, and do no more")
    options, overrides = _parse(parser, given)
    recipe = _load_recipe(options.recipe, overrides)
    if options.print_recipe:
        print(recipe.to_yaml(), end="")
        return 0
    return _run(recipe, options.output, options.resume, given)


def _run(recipe: "Recipe", output: Path | None, resume: str | None, given: list[str]) -> int:
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from hamr_lightning.fit import fit
    from hamr_lightning.runs import Stopped

    say = rank_zero_only(print)
    try:
        result = fit(recipe, output, "auto" if resume == "auto" else None if resume is None else Path(resume))
    except Stopped as stopped:
        again = shlex.join(["hamr-fit", *_without_resume(given), "--resume", str(stopped.checkpoint)])
        saved = stopped.checkpoint.is_file()
        say(f"{stopped}; go on with:\n  {again}" if saved else f"{stopped}, before the first step", file=sys.stderr)
        return _SIGNALLED + stopped.signum
    say(_summary(result))
    return 0


def _data(given: list[str]) -> int:
    parser = argparse.ArgumentParser("hamr-data", description="Look at data sets.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    preview = commands.add_parser(
        "preview",
        description="Write a sheet of cropped samples, each with its mask and skeleton drawn beside it. " + _OVERRIDES,
        allow_abbrev=False,
    )
    preview.add_argument("name", nargs="?", help="data set, such as synthetic or rhd (default: the recipe's)")
    preview.add_argument("--recipe", default="full", metavar="PATH|NAME", help="recipe (default: %(default)s)")
    preview.add_argument("--output", type=Path, default=Path("sheet.png"), metavar="PNG", help="default: %(default)s")
    preview.add_argument("--count", type=int, default=16, help="samples to show (default: %(default)s)")
    preview.add_argument("--split", choices=("train", "val"), default="train", help="default: %(default)s")
    options, overrides = _parse(parser, given)
    if options.count < 1:
        preview.error(f"--count must be at least 1, got {options.count}")
    overrides += ["data.batch_size=1", "data.workers=0"]
    overrides += [f"data.name={options.name}"] if options.name is not None else []
    count = _preview(_load_recipe(options.recipe, overrides), options.split, options.count, options.output)
    print(f"{options.output}: {count} samples")
    return 0


def _preview(recipe: "Recipe", split: str, count: int, output: Path) -> int:
    from itertools import islice

    from hamr_lightning.figures import batch_sheet, save_png
    from hamr_lightning.types import HandBatch

    data = recipe.build_datamodule()
    loader = data.train_dataloader() if split == "train" else data.val_dataloader()
    batch = HandBatch.concatenate(list(islice(loader, count)))
    save_png(batch_sheet(batch), output)
    return len(batch)


def _load_recipe(name: str, overrides: list[str]) -> "Recipe":
    from hamr_lightning.recipe import load_recipe

    return load_recipe(name, overrides)


def _parse(parser: argparse.ArgumentParser, given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the overrides as ``key=value``."""
    own: list[str] = []
    overrides: list[str] = []
    words = iter(given)
    for word in words:
        key, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key.split(".")[0] not in SECTIONS:
            own.append(word)
            continue
        if not separator:
            value = next(words, "--")
            if value.startswith("--"):
                parser.error(f"{word} needs a value")
        overrides.append(f"{key}={value}")
    options, unknown = parser.parse_known_args(own)
    if unknown:
        known = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
        parser.error(f"unknown option {unknown[0]!r}; {nearest(unknown[0].lstrip('-'), [*known, *SECTIONS])}")
    return options, overrides


def _without_resume(given: list[str]) -> list[str]:
    kept: list[str] = []
    words = iter(given)
    for word in words:
        if word == "--resume":
            next(words, None)
        elif not word.startswith("--resume="):
            kept.append(word)
    return kept


def _summary(result: "FitResult") -> str:
    from hamr_lightning.fit import CONSTANT_SAMPLES, FIGURES

    rows = [
        f"  {label:<24}{_number(result.model.get(key)):>10}{_number(result.constant.get(key)):>14}"
        for key, label in FIGURES.items()
    ]
    heading = f"  {'validation':<24}{'model':>10}{'best constant':>14}"
    note = f"  (best constant: found from up to {CONSTANT_SAMPLES} training samples)"
    figures = sorted(map(str, result.folder.glob("figures/*.png")))
    return "\n".join(
        [
            f"after {result.step} steps, in {result.folder}",
            heading,
            *rows,
            note,
            "figures:",
            *(f"  {f}" for f in figures),
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
