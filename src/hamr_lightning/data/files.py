"""Reading a data set's files: every failure is a ValueError that names the file and the mend."""

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from hamr_lightning.data.png import decode_png

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_UNPACK: Final = "unpack it again from the data set's archive"


def resolve_root(root: str | Path) -> Path:
    """Return a data set's folder; ``~`` and ``$VARIABLE`` stand for what they do in a shell.

    Raises:
        ValueError: If there is no such folder, or an environment variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(root))  # noqa: PTH111 - pathlib's raises where nobody is at home
    if not os.path.isdir(expanded):  # noqa: PTH112 - likewise, for a name that is too long, among others
        unset = re.findall(r"\$\{?\w+\}?", expanded)
        mend = f"set the environment variable {unset[0]}" if unset else "root must name the one that holds the data set"
        raise ValueError(f"{expanded} is no folder; {mend}")
    return Path(expanded)


def read_rgb(path: Path, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture of three channels of 8 bits.

    Args:
        path: The file.
        size: Width and height that it must have, such as those that its camera is calibrated for; None for any.

    Raises:
        ValueError: If it is missing, broken, another kind of picture, or of another size.
    """
    image = _read_picture(path, (3,))
    found = (image.shape[1], image.shape[0])
    if size not in (None, found):
        raise ValueError(f"{path} must have {size[0]} x {size[1]} pixels, got {found[0]} x {found[1]}; {_UNPACK}")
    return image


def read_grey(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a picture of one channel of 8 bits.

    Raises:
        ValueError: As :func:`read_rgb`.
    """
    return _read_picture(path, ())


def read_photograph(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read any picture as RGB, as its file has it: it is not turned by its Exif orientation.

    Raises:
        ValueError: If it is missing or broken.
    """
    mode = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(_decode_picture(path, _read_bytes(path), mode), cv2.COLOR_BGR2RGB)


def read_json(path: Path) -> Any:
    """Read a JSON file, in which every number must be finite.

    Raises:
        ValueError: If it is missing, broken, or holds NaN or an infinity.
    """
    text = _read_text(path)
    try:
        return json.loads(text, **_FINITE)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON of finite numbers: {error}") from error


def read_json_list(path: Path) -> Iterator[Any]:
    """Yield the entries of a JSON file that is a list, one after the other, so that a large one never is whole objects.

    Raises:
        ValueError: As :func:`read_json`, or if it is no list; while it is iterated.
    """
    text = _read_text(path)
    try:
        yield from _entries(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON list of finite numbers: {error}") from error


def read_json_arrays(path: Path, shape: tuple[int, ...]) -> Float32[np.ndarray, "n *shape"]:
    """Read a JSON file that is a list of arrays of one shape, in which axes of length 1 do not count.

    Raises:
        ValueError: As :func:`read_json_list`, or if the list is empty or an entry is no array of finite numbers of that
            shape; the message names the entry.
    """
    arrays = [_array(path, index, entry, shape) for index, entry in enumerate(read_json_list(path))]
    if not arrays:
        raise ValueError(f"{path} is an empty list; {_UNPACK}")
    return np.stack(arrays)


def _array(path: Path, index: int, entry: Any, shape: tuple[int, ...]) -> Float32[np.ndarray, "*shape"]:
    try:
        with np.errstate(over="ignore"):
            array = np.squeeze(np.array(entry, np.float32))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: entry {index} is no array of numbers: {error}") from error
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{path}: entry {index} must have shape {shape} and be finite, got shape {array.shape}")
    return array


def _entries(text: str) -> Iterator[Any]:
    decode = json.JSONDecoder(**_FINITE).raw_decode
    position = _expect(text, 0, "[")
    more = not text.startswith("]", position)
    while more:
        entry, position = decode(text, position)
        yield entry
        position = _skip_space(text, position)
        more = text.startswith(",", position)
        if more:
            position = _skip_space(text, position + 1)
    position = _expect(text, position, "]")
    if position < len(text):
        raise ValueError(f"something follows the list at character {position}")


def _expect(text: str, position: int, token: str) -> int:
    start = _skip_space(text, position)
    if not text.startswith(token, start):
        raise ValueError(f"expected {token!r} at character {start}, found {text[start : start + 1]!r}")
    return _skip_space(text, start + 1)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _read_picture(path: Path, channels: tuple[int, ...]) -> UInt8[np.ndarray, "h w *c"]:
    content = _read_bytes(path)
    image = decode_png(content)
    if image is None:
        image = _decode_picture(path, content, cv2.IMREAD_UNCHANGED)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.shape[2:] == (3,) else image
    if image.shape[2:] != channels or image.dtype != np.uint8:
        wanted = "an RGB" if channels else "a grey"
        raise ValueError(f"{path} must be {wanted} picture of 8 bits, got shape {image.shape} of {image.dtype}")
    return image


def _decode_picture(path: Path, content: bytes, mode: int) -> np.ndarray:
    try:
        image = None if _is_cut_off(content) else cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    except cv2.error:  # an absurd size, among others
        image = None
    if image is None:
        raise ValueError(f"{path} is broken, it cannot be read as a picture; {_UNPACK}")
    return image


def _is_cut_off(content: bytes) -> bool:
    """Tell whether a PNG or JPEG lacks its end, or anything is empty: OpenCV 4 gives the part that there is."""
    if content.startswith(b"\x89PNG"):
        return content.rfind(b"IEND") < 0  # from the end, where it is
    if content.startswith(b"\xff\xd8"):
        start_of_scan, end_of_image = b"\xff\xda", b"\xff\xd9"
        return content.rfind(end_of_image) < content.rfind(start_of_scan)
    return not content


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file: {error}; {_UNPACK}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; {_UNPACK}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text[:40]}, where a finite number must be")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


_FINITE: Final[dict[str, Any]] = {"parse_constant": _finite, "parse_float": _finite, "parse_int": _whole}
