"""What the commands share: options beside recipe overrides, and mistakes as a message and status 2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from hamr_lightning.errors import UserError
from hamr_lightning.recipe_check import SECTIONS
from hamr_lightning.registry import nearest

FOUND_WRONG: Final = 1
MISTAKE: Final = 2
SIGNALLED: Final = 128
OVERRIDES: Final = """\
Every other option changes the recipe: --losses.cam.weight 0.2, --losses.cam.weight=0.2, --losses.seg null,
--data.name rhd --data.root DIR. The key is the dotted path of a leaf, the value is YAML."""


def run_command(command: str, run: Callable[[list[str]], int], given: Sequence[str] | None) -> int:
    """Run a command and return its exit status.

    Args:
        command: Its name, for messages.
        run: What it does with the words after its name; returns the status.
        given: These words; None takes them from the command line.

    Returns:
        What ``run`` does: 0 if all went well; 2 after a mistake of the user's, 130 after Ctrl-C.
    """
    try:
        return run(sys.argv[1:] if given is None else list(given))
    except UserError as error:
        print(f"{command}: error:\n{error}" if "\n" in str(error) else f"{command}: error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return SIGNALLED + 2


def parse(parser: argparse.ArgumentParser, given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
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
