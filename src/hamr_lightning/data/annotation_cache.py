"""Annotation decoded once, and from then on mapped into memory: a start takes no time, and workers share its pages.

The cache lies in ``$HAMR_CACHE``, by default ``hamr_lightning`` in the user's cache folder. It holds plain arrays, and
may be removed while nothing runs.
"""

import hashlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

_LIST: Final = "arrays.txt"
_OUTDATED_FOR_GOOD: Final = 7 * 24 * 3600  # seconds; until then another machine or a running training may still use it


def cached_annotation(
    name: str, files: Sequence[Path], decode: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """Return what ``decode`` makes of the files, from the cache where the files are as they were.

    Where the cache cannot be written, a warning says so and the arrays are as ``decode`` gave them.

    Args:
        name: Names the decoder and its version, such as "rhd-1": another name is another entry.
        files: What the annotation is decoded from. Their paths, sizes and times of change are the key.
        decode: Reads the files to arrays of numbers or strings (no objects).

    Returns:
        Read-only arrays by name, mapped from disk. They are pickled as the place where they lie.

    Raises:
        ValueError: What ``decode`` raises; nothing is written then.
    """
    paths = [path.resolve() for path in files]
    place = f"{name}-{_digest([str(path) for path in paths])}"
    entry = f"{place}-{_digest([_stamp(path) for path in paths])}"
    with suppress(OSError, RuntimeError, ValueError):
        return MappedArrays(_cache_folder() / entry)
    arrays = decode()
    try:
        folder = _cache_folder()
        mapped = _write(folder / entry, arrays)
        _remove_outdated(folder.glob(f"{place}-*"), folder / entry)
        return mapped
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"annotation is not cached, every start decodes it again: {error}; set HAMR_CACHE", RuntimeWarning, 2
        )
        return arrays


class MappedArrays(Mapping[str, np.ndarray]):
    """The arrays in a folder, mapped read-only.

    Raises:
        OSError: If there is no such folder, or a file in it is missing.
        ValueError: If a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names = (folder / _LIST).read_text(encoding="utf-8").splitlines()
        self._arrays = {name: _map(folder / f"{name}.npy") for name in names}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array."""
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedArrays, (self._folder,)


def _map(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except OSError:
        raise
    except Exception as error:  # NumPy's parser of a header raises what it meets
        raise ValueError(f"{path} is damaged: {error}") from error


def _write(folder: Path, arrays: Mapping[str, np.ndarray]) -> MappedArrays:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as unfinished:
        whole = Path(unfinished) / folder.name
        whole.mkdir()
        for name, array in arrays.items():
            with (whole / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())  # after a power failure a renamed folder could hold pages of zeros
        (whole / _LIST).write_text("\n".join(arrays), encoding="utf-8")
        return _put(whole, folder)


def _put(whole: Path, folder: Path) -> MappedArrays:
    """Move a whole folder to its place, unless another process has been faster; a damaged one gives way."""
    with suppress(OSError):
        whole.rename(folder)
    with suppress(OSError, ValueError):
        return MappedArrays(folder)
    shutil.rmtree(folder, ignore_errors=True)
    whole.rename(folder)
    return MappedArrays(folder)


def _remove_outdated(entries: Iterator[Path], current: Path) -> None:
    for entry in entries:
        with suppress(OSError):  # another process may remove it, too
            if entry != current and time.time() - entry.stat().st_mtime > _OUTDATED_FOR_GOOD:
                shutil.rmtree(entry)


def _cache_folder() -> Path:
    named = os.environ.get("HAMR_CACHE")
    folder = named or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hamr_lightning"
    return Path(folder).expanduser().absolute()


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # missing, which decode tells
        return "-"
    return f"{status.st_size} {status.st_mtime_ns}"


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
