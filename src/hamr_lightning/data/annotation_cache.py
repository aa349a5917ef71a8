"""Annotation decoded once, and from then on mapped into memory: a start takes no time, and workers share its pages.

The cache lies in ``$HAMR_CACHE``, by default ``hamr_lightning`` in the user's cache folder. It holds plain arrays, and
may be removed at any time.
"""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

_SUFFIX: Final = ".npy"


def cached_annotation(
    name: str, files: Sequence[Path], decode: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """Return what ``decode`` makes of the files, from the cache where the files are as they were.

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
    place = _digest([str(path) for path in paths])
    stamps = [path.stat() for path in paths]
    content = _digest([f"{stamp.st_size} {stamp.st_mtime_ns}" for stamp in stamps])
    folder = _cache_folder() / f"{name}-{place}-{content}"
    try:
        return MappedArrays(folder)
    except (OSError, ValueError):  # not there, or damaged
        arrays = decode()
    try:
        _write(folder, arrays)
        for outdated in set(folder.parent.glob(f"{name}-{place}-*")) - {folder}:
            shutil.rmtree(outdated, ignore_errors=True)
        return MappedArrays(folder)
    except OSError as error:
        warnings.warn(f"annotation is not cached, every start decodes it again: {error}; set HAMR_CACHE", stacklevel=2)
        return arrays


class MappedArrays(Mapping[str, np.ndarray]):
    """The arrays in a folder, mapped read-only.

    Raises:
        OSError: If there is no such folder.
        ValueError: If a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
        self._arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}

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


def _write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(unfinished / f"{name}{_SUFFIX}", array, allow_pickle=False)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():  # otherwise another process was faster
            raise


def _cache_folder() -> Path:
    named = os.environ.get("HAMR_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hamr_lightning"


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
