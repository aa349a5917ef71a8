"""Reading a data set's files: every failure is a ValueError that names the file and the mend."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import UInt8

_SPACE: Final = re.compile(r"[ \t\r\n]*")


def resolve_root(root: str | Path) -> Path:
    """Return a data set's folder; ``~`` and ``$VARIABLE`` stand for what they do in a shell.

    Raises:
        ValueError: If there is no such folder, or an environment variable is not set.
    """
    expanded = Path(os.path.expandvars(root)).expanduser()
    if not expanded.is_dir():
        unset = re.findall(r"\$\{?\w+\}?", str(expanded))
        mend = f"set the environment variable {unset[0]}" if unset else "give the folder that holds the data set"
        raise ValueError(f"root: {expanded} is no folder; {mend}")
    return expanded


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture of three channels of 8 bits.

    Raises:
        ValueError: If it is missing, broken, or another kind of picture.
    """
    return cv2.cvtColor(_read(path, (3,)), cv2.COLOR_BGR2RGB)


def read_grey(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a picture of one channel of 8 bits.

    Raises:
        ValueError: As :func:`read_rgb`.
    """
    return _read(path, ())


def read_json(path: Path) -> Any:
    """Read a JSON file, in which every number must be finite.

    Raises:
        ValueError: If it is missing, broken, or holds NaN or an infinity.
    """
    try:
        return json.loads(_read_text(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON of finite numbers: {error}") from error


def read_json_list(path: Path) -> Iterator[Any]:
    """Yield the entries of a JSON file that is a list, one after the other, so that a large one never is whole objects.

    Raises:
        ValueError: As :func:`read_json`, or if it is no list; while it is iterated.
    """
    text, position = _read_text(path), 0
    decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode
    try:
        position = _expect(text, position, "[")
        separator = "["
        while separator != "]" and not (separator == "[" and text[position : position + 1] == "]"):
            entry, position = decode(text, position)
            yield entry
            separator = text[_skip(text, position) : _skip(text, position) + 1]
            position = _expect(text, position, "]" if separator == "]" else ",")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON list of finite numbers: {error}") from error


def _read(path: Path, channels: tuple[int, ...]) -> UInt8[np.ndarray, "h w *c"]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack it again from the data set's archive")
    content = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except cv2.error:  # an absurd size, among others
        image = None
    if image is None:
        raise ValueError(f"{path} is broken, it cannot be read as a picture; unpack it again from the archive")
    if image.shape[2:] != channels or image.dtype != np.uint8:
        wanted = "an RGB" if channels else "a grey"
        raise ValueError(f"{path} must be {wanted} picture of 8 bits, got shape {image.shape} of {image.dtype}")
    return image


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack it again from the data set's archive")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, where a finite number must be")


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _expect(text: str, position: int, token: str) -> int:
    start = _skip(text, position)
    if not text.startswith(token, start):
        raise ValueError(f"expected {token!r} at character {start}, found {text[start : start + 1]!r}")
    return _skip(text, start + len(token))
