"""``hamr-fit``: train the model of a recipe."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hamr_lightning.cli.common import OVERRIDES, SIGNALLED, parse, run_command
from hamr_lightning.recipe import Recipe, load_recipe
from hamr_lightning.recipe_source import shipped_recipes

if TYPE_CHECKING:
    from hamr_lightning.fit import FitResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-fit``; the exit status is as of :func:`hamr_lightning.cli.common.run_command`, 143 after SIGTERM."""
    return run_command("hamr-fit", _run, arguments)


def _run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "hamr-fit",
        description="Train the model of a recipe. " + OVERRIDES,
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
    options, overrides = parse(parser, given)
    recipe = load_recipe(options.recipe, overrides)
    if options.print_recipe:
        print(recipe.to_yaml(), end="")
        return 0
    return _train(recipe, options.output, options.resume, given)


def _train(recipe: Recipe, output: Path | None, resume: str | None, given: list[str]) -> int:
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
        return SIGNALLED + stopped.signum
    say(_summary(result))
    return 0


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

    sets = dict.fromkeys(key.rpartition("/")[0] for key in [*result.model, *result.constant]) or [""]
    rows = [
        f"  {f'{name} {label}'.lstrip():<32}{_number(result.model.get(key)):>10}{_number(result.constant.get(key)):>14}"
        for name in sets
        for key, label in ((f"{name}/{key}".lstrip("/"), label) for key, label in FIGURES.items())
    ]
    skipped = [f"skipped {len(result.skipped)} sample(s) that could not be read:"] if result.skipped else []
    figures = sorted(map(str, result.folder.glob("figures/*.png")))
    return "\n".join(
        [
            f"after {result.step} steps, in {result.folder}",
            f"  {'validation':<32}{'model':>10}{'best constant':>14}",
            *rows,
            f"  (best constant: found from up to {CONSTANT_SAMPLES} training samples)",
            *skipped,
            *(f"  {reason}" for reason in result.skipped),
            "figures:",
            *(f"  {f}" for f in figures),
        ]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
