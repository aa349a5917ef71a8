"""``hamr-ablate``: train and evaluate recipes that differ in one thing each."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hamr_lightning.cli.common import FOUND_WRONG, OVERRIDES, parse, run_command
from hamr_lightning.cli.evaluate import PROTOCOL_NAMES
from hamr_lightning.recipe import load_recipe, load_variant, override

if TYPE_CHECKING:
    from hamr_lightning.ablation import Result

_SHOWN = ("auc_3d", "joint_error_mm", "auc_2d", "miou", "pa_mpjpe_mm", "pa_mpvpe_mm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-ablate``.

    Returns:
        The exit status: 0, 1 if a recipe failed, and as of :func:`hamr_lightning.cli.common.run_command`.
    """
    return run_command("hamr-ablate", _run, arguments)


def _run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "hamr-ablate",
        description="Train and evaluate a recipe and variants of it, in turn, with the same seed and data, and leave "
        "one table and one plot. What has been trained is found again: the same command goes on after an "
        "interruption. " + OVERRIDES,
        epilog="A variant is a recipe that extends another; what it changes is applied to the first recipe given here, "
        "so that recipes/ablations/*.yaml are variants of recipes/quickstart.yaml as well as of recipes/full.yaml.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file, or name of a shipped recipe")
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="recipes that change one thing each")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the study's folder (default: runs/ablation_RECIPE)")
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="paper", help="default: %(default)s")
    options, overrides = parse(parser, given)
    base = override(load_recipe(options.recipe), overrides)
    recipes = [base, *(load_variant(base, variant) for variant in options.variants)]

    from hamr_lightning.ablation import Interrupted, ablate

    folder = options.output or Path("runs", f"ablation_{base.name}")
    try:
        results = ablate(recipes, folder, options.protocol)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.status
    print(_table(results))
    print(f"in {folder}")
    return FOUND_WRONG if any(result.failure for result in results) else 0


def _table(results: Sequence["Result"]) -> str:
    rows = [
        (result.name, name, result.failure, result.figures(name) if name else {})
        for result in results
        for name in ([*result.reports] or [""])
    ]
    shown = [key for key in _SHOWN if any(key in figures for *_, figures in rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [" ".join(["recipe".ljust(widths[0]), "set".ljust(widths[1]), *(key.rjust(15) for key in shown)])]
    for recipe, name, failure, figures in rows:
        numbers = [f"{figures[key]:15.3f}" if key in figures else "-".rjust(15) for key in shown]
        lines.append(" ".join([recipe.ljust(widths[0]), name.ljust(widths[1]), *([failure] if failure else numbers)]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
