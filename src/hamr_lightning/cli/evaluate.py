"""``hamr-eval``: measure a checkpoint's model on data sets."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hamr_lightning.cli.common import OVERRIDES, parse, run_command

if TYPE_CHECKING:
    from hamr_lightning.evaluation import Evaluation

PROTOCOL_NAMES: Final = ("paper", "freihand", "ho3d")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-eval``; the exit status is as of :func:`hamr_lightning.cli.common.run_command`."""
    return run_command("hamr-eval", _run, arguments)


def _run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "hamr-eval",
        description="Measure a trained model on its recipe's validation data, or on other data. " + OVERRIDES,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="PATH", help="checkpoint of hamr-fit")
    parser.add_argument(
        "--protocol", choices=PROTOCOL_NAMES, default="paper", help="what to report (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the reports, one in it for each data set (default: evaluation/CHECKPOINT_PROTOCOL in the "
        "run's folder, such as evaluation/last_paper)",
    )
    parser.add_argument(
        "--curves",
        type=Path,
        metavar="CSV",
        help="published curves to draw beside: columns method, threshold, pck, and plot (pck_3d or pck_2d) and set, "
        "if not for all",
    )
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    options, overrides = parse(parser, given)

    from hamr_lightning.evaluation.run import evaluate_checkpoint

    folder = options.output or _default_folder(options.checkpoint, options.protocol)
    evaluations = evaluate_checkpoint(
        options.checkpoint, overrides, options.protocol, folder, curves=options.curves, device=options.device
    )
    for name, evaluation in evaluations.items():
        print(_table(name, evaluation, folder / name))
    return 0


def _default_folder(checkpoint: Path, protocol: str) -> Path:
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return run / "evaluation" / f"{checkpoint.stem}_{protocol}"


def _table(name: str, evaluation: "Evaluation", folder: Path) -> str:
    figures = evaluation.figures()
    rows = [f"  {evaluation.protocol.figures[key].label:<50}{value:>10.4g}" for key, value in figures.items()]
    heading = f"{name}: {len(evaluation.sources):,} samples, protocol {evaluation.protocol.name}"
    skipped = [f"  skipped: {reason}" for reason in evaluation.skipped]
    return "\n".join([heading, *rows, *skipped, f"  in {folder}"])


if __name__ == "__main__":
    sys.exit(main())
