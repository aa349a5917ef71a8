"""``hamr-data``: look at data sets, check them, and make one."""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hamr_lightning.cli.common import OVERRIDES, parse, run_command
from hamr_lightning.cli.data_set import at_least
from hamr_lightning.cli.data_synth import add_synth
from hamr_lightning.cli.data_verify import add_verify
from hamr_lightning.errors import UserError
from hamr_lightning.recipe import load_recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hamr-data``; the exit status is as of :func:`hamr_lightning.cli.common.run_command`."""
    return run_command("hamr-data", _run, arguments)


def _run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "hamr-data", description="Look at data sets, check them, and make one.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_preview(commands)
    add_verify(commands)
    add_synth(commands)
    options, overrides = parse(parser, given)
    return options.run(options, overrides)


def _add_preview(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    preview = commands.add_parser(
        "preview",
        description="Write a sheet of cropped samples, each with its mask and skeleton drawn beside it, of "
        "training as the recipe varies them. " + OVERRIDES,
        allow_abbrev=False,
    )
    preview.set_defaults(run=_preview)
    preview.add_argument("name", nargs="?", help="data set, such as synthetic or rhd (default: the recipe's)")
    preview.add_argument("--recipe", default="full", metavar="PATH|NAME", help="recipe (default: %(default)s)")
    preview.add_argument("--output", type=Path, default=Path("sheet.png"), metavar="PNG", help="default: %(default)s")
    preview.add_argument("--count", type=at_least(1), default=16, help="samples to show (default: %(default)s)")
    preview.add_argument("--split", choices=("train", "val"), default="train", help="default: %(default)s")


def _preview(options: argparse.Namespace, overrides: list[str]) -> int:
    from hamr_lightning.figures import batch_sheet, save_png
    from hamr_lightning.types import HandBatch

    overrides = [*overrides, *([f"data.name={options.name}"] if options.name is not None else [])]
    recipe = load_recipe(options.recipe, overrides)
    data = recipe.build_datamodule() if options.split == "train" else recipe.build_evaluation()
    crops = list(islice(data.crops(options.split), options.count))
    if not crops:
        raise UserError(f"no sample can be read: {'; '.join(data.skipped)}")
    batch = HandBatch.concatenate(crops)
    save_png(batch_sheet(batch), options.output)
    print(f"{options.output}: {len(batch)} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
