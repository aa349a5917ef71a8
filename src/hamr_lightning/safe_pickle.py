"""Pickles of arrays and plain values, read without running any code that is in them."""

import io
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

Names = Mapping[tuple[str, str], Any]
"""What stands in for the modules' names that a pickle asks for."""


class RefusedPickleError(pickle.UnpicklingError):
    """A pickle asks for a name that nothing stands in for."""


class StandIn(ABC):
    """Takes an object's place in a pickle. It keeps the object's state, and can give the array, nothing else.

    NumPy's and SciPy's own objects are kept out too: a hostile state can make them read and write foreign memory.
    """

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @abstractmethod
    def dense(self) -> np.ndarray:
        """Return the array; a broken state raises any exception."""


def loads(content: bytes, names: Names) -> Any:
    """Read a pickle of arrays, Python 2's too; every array is a :class:`StandIn`, for :func:`dense`.

    Args:
        content: The pickle.
        names: Stand-ins beside those for NumPy's arrays and numbers.

    Raises:
        RefusedPickleError: If it asks for another name.
        Exception: Any other if it is no pickle, or a broken one.
    """
    return _Unpickler(content, names).load()


def dense(value: Any) -> np.ndarray:
    """Return the array that a stand-in has the state of; an array itself.

    Raises:
        TypeError: If it is neither, or an array of other things than numbers.
        Exception: Any other if the state is broken.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, StandIn):
        return value.dense()
    raise TypeError(f"expected an array, found {type(value).__name__}")


class _Array(StandIn):
    def dense(self) -> np.ndarray:
        _, shape, dtype, is_fortran, content = self.state
        buffer = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(buffer, dtype.numpy()).reshape(shape, order="F" if is_fortran else "C")


class _DType:
    def __init__(self, code: str, align: bool, copy: bool) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype:
        if not re.fullmatch("[fiu][1248]", self.code):
            raise TypeError(f"expected an array of numbers, found dtype {self.code}")
        return np.dtype(self.code).newbyteorder(self.order)


def _empty_array(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _array_from_buffer(content: bytes | bytearray, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", content)
    return array


def _number(dtype: _DType, content: bytes | str) -> _Array:
    array = _Array()
    array.state = (1, (), dtype, False, content)
    return array


def _latin1_bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_NAMES: Final[Names] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("_codecs", "encode"): _latin1_bytes,
}
"""As NumPy 1 names them; NumPy 2 writes ``numpy._core``."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._names = {**_NAMES, **names}

    def find_class(self, module: str, name: str) -> Any:
        known = self._names.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise RefusedPickleError(
                f"refused: the pickle asks for {module}.{name}, which no such file contains; it may be harmful"
            )
        return known
