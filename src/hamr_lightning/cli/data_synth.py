"""``hamr-data synth``: write rendered hands to disk."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hamr_lightning.cli.data_set import add_workers, at_least, check_dataset, progress_bar
from hamr_lightning.errors import UserError

if TYPE_CHECKING:
    from hamr_lightning.hand_model import HandModel


def add_synth(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    synth = commands.add_parser(
        "synth",
        description="Write rendered hands, every other one a left hand, in the layout of a published data set. Other "
        "options are arguments of the data set synthetic: --data.KEY VALUE.",
        allow_abbrev=False,
    )
    synth.set_defaults(run=_synth)
    synth.add_argument("--layout", choices=("rhd",), default="rhd", help="default: %(default)s")
    synth.add_argument("--count", type=at_least(1), required=True, help="pictures to train on")
    synth.add_argument("--val-count", type=at_least(0), default=0, help="pictures to validate on (default: none)")
    synth.add_argument("--output", type=Path, required=True, metavar="DIR", help="new or empty folder")
    synth.add_argument("--seed", help="number, at least 0 (default: 0)")
    add_workers(synth)


def _synth(options: argparse.Namespace, overrides: list[str]) -> int:
    from hamr_lightning.data.rhd_writer import SIZE
    from hamr_lightning.hand_model import HandModel

    filled_in: dict[str, Any] = {
        "count": options.count,
        "val_count": max(options.val_count, 1),
        "render_size": SIZE,
    }
    # The common parser takes --seed for the recipe's.
    overrides = [f"data.{override}" if override.startswith("seed=") else override for override in overrides]
    component, arguments = check_dataset("synthetic", {}, overrides, ("split", *filled_in))
    output: Path = options.output
    try:
        hand = HandModel.load(arguments.get("hand", "open"))
        datasets = {
            split: component(split=split, **arguments, **filled_in)
            for split, count in (("train", options.count), ("val", options.val_count))
            if count
        }
        _check_empty(output)
        for split, dataset in datasets.items():
            _write(output, split, dataset, hand, options.workers)
    except KeyboardInterrupt:
        print(f"stopped; what is in {output} lacks the annotation and is no data set", file=sys.stderr)
        raise
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    print(f"{output}: {sum(map(len, datasets.values()))} pictures in RHD's layout")
    return 0


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {folder}: is not empty; give another folder")


def _write(output: Path, split: str, dataset: Any, hand: "HandModel", workers: int) -> None:
    from hamr_lightning.data.rhd_writer import write_rhd

    write_rhd(output, split, dataset, hand, workers, progress_bar(f"{split:5}"))
