"""JSON lists of arrays of one shape, as FreiHAND and HO-3D publish their annotation."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from hamr_lightning.data.files import read_json_list


def read_json_arrays(path: Path, shape: tuple[int, ...]) -> Float32[np.ndarray, "n *shape"]:
    """Read a JSON file that is a list of arrays of one shape, in which axes of length 1 do not count.

    Raises:
        ValueError: If it is missing, broken, no list or an empty one, or if an entry is no array of finite numbers of
            that shape; the message names the file and the entry.
    """
    arrays = [_array(path, index, entry, shape) for index, entry in enumerate(read_json_list(path))]
    if not arrays:
        raise ValueError(f"{path} is an empty list; unpack it again from the data set's archive")
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
