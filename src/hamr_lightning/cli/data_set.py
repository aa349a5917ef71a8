"""What ``hamr-data``'s commands share: a data set named on the command line, and a progress bar."""

import argparse
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from hamr_lightning.errors import UserError

_MOST_WORKERS: Final = 8


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option for the number of processes."""
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=min(os.cpu_count() or 1, _MOST_WORKERS),
        help="processes; 0: this one (default: %(default)s)",
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of an option that is a number from ``least`` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def check_dataset(
    name: str, given: Mapping[str, Any], overrides: Sequence[str], filled_in: Collection[str]
) -> tuple[type, dict[str, Any]]:
    """Return a data set's class and its arguments, those given and those of overrides ``data.key=value``.

    Raises:
        UserError: If there is no such data set, or its class does not take the arguments; the message lists all.
    """
    from hamr_lightning.arguments import check_arguments
    from hamr_lightning.recipe_source import Source, merge_overrides
    from hamr_lightning.registry import find

    try:
        component = find("dataset", name)
    except ValueError as error:
        raise UserError(str(error)) from error
    tree = merge_overrides(Source({}, {}), overrides, lambda section: frozenset()).tree
    arguments = tree.pop("data", {})
    twice = given.keys() & arguments.keys() if isinstance(arguments, dict) else ()
    if tree or not isinstance(arguments, dict) or twice:
        raise UserError(f"only arguments of the data set can be given, each once, such as --data.root DIR: {overrides}")
    converted, problems = check_arguments(component, {**given, **arguments}, filled_in, ("data",))
    if problems:
        raise UserError("\n".join(f"{'.'.join(problem.path)}: {problem.message}" for problem in problems))
    return component, converted


def progress_bar(label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """Return what shows a bar on the terminal while it passes results on; elsewhere it shows nothing."""
    from tqdm import tqdm

    return lambda results, total: tqdm(results, label, total, unit="", disable=None, leave=False)
