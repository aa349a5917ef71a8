"""MANO-shaped hands of random numbers, and files of them in the form in which MANO is distributed."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

KINTREE = np.array([[2**32 - 1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], range(16)], dtype=np.uint32)

OFFICIAL_GLOBALS = {
    "__builtin__ set",
    "chumpy.ch Ch",
    "chumpy.reordering Select",
    "numpy dtype",
    "numpy ndarray",
    "numpy.core.multiarray _reconstruct",
    "scipy.sparse.csc csc_matrix",
}
"""What a dictionary like MANO's names when Python 2.7, NumPy 1.16, SciPy 1.2 and chumpy 0.70 pickle it."""


def random_arrays(side: str = "right", seed: int = 0) -> dict[str, Any]:
    """Return arrays by MANO's keys, at a hand's scale: fingers along -x, or +x on a left hand."""
    random = np.random.default_rng(seed)
    vertices = random.normal(0, 0.03, (778, 3))
    vertices[:20, 0] += 0.1
    vertices[:, 0] *= 1 if side == "right" else -1
    weights = random.random((778, 16)) ** 8
    regressor = np.where(random.random((16, 778)) < 0.02, random.random((16, 778)), 0)
    regressor[0] = np.arange(778) < 20
    regressor[1:, 100] += 0.1
    components, _ = np.linalg.qr(random.normal(size=(45, 45)))
    return {
        "v_template": vertices,
        "f": random.integers(0, 778, (1538, 3)).astype(np.uint32),
        "shapedirs": random.normal(0, 2e-3, (778, 3, 10)),
        "posedirs": random.normal(0, 1e-4, (778, 3, 135)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": KINTREE,
        "hands_components": components,
        "hands_mean": random.normal(0, 0.3, 45),
        "hands_coeffs": random.normal(size=(1554, 45)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def official_pickle(arrays: dict[str, Any]) -> bytes:
    """Pickle arrays as MANO's files are: by Python 2, protocol 2, sparse regressor, shapes sliced by chumpy."""
    return python_2_pickle(
        arrays | {"J_regressor": sparse(arrays["J_regressor"]), "shapedirs": chumpy_slice(arrays["shapedirs"])}
    )


def chumpy_slice(array: np.ndarray) -> Any:
    """Return what chumpy makes of ``[:, :, :10]`` of a Ch of twice as many directions."""
    shape = (*array.shape[:2], 2 * array.shape[2])
    whole = foreign("chumpy.ch", "Ch", **_CHUMPY_STATE, _status="new", x=np.concatenate([array, array + 1], 2))
    kept = np.arange(np.prod(shape)).reshape(shape)[:, :, : array.shape[2]]
    return foreign(
        "chumpy.reordering", "Select", **_CHUMPY_STATE, a=whole, idxs=kept.ravel(), preferred_shape=kept.shape
    )


def sparse(array: np.ndarray, **replaced: Any) -> Any:
    """Return SciPy's compressed-column form of an array."""
    columns, rows = np.nonzero(array.T)
    state = {
        "data": array[rows, columns],
        "indices": rows.astype(np.int32),
        "indptr": np.searchsorted(columns, np.arange(array.shape[1] + 1)).astype(np.int32),
        "_shape": array.shape,
        "maxprint": 50,
    }
    return foreign("scipy.sparse.csc", "csc_matrix", **(state | replaced))


def foreign(module: str, name: str, **state: Any) -> Any:
    """Return an object that pickles as an instance of a class that need not be importable."""
    instance = type(name, (), {"__module__": module})()
    vars(instance).update(state)
    return instance


def python_2_pickle(value: Any) -> bytes:
    """Pickle as Python 2 does: byte strings for strings, the module names of its time."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


_CHUMPY_STATE = {
    "_dirty_vars": {"x"},
    "_itr": None,
    "_depends_on_deps": {},
    "_make_dense": False,
    "_make_sparse": False,
}

_PYTHON_2_MODULES = {"builtins": "__builtin__", "numpy._core.multiarray": "numpy.core.multiarray"}


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = _PYTHON_2_MODULES.get(obj.__module__, obj.__module__)
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    def save_string(self, value: str | bytes) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {  # type: ignore[attr-defined]
        str: save_string,
        bytes: save_string,
        type: save_global,
    }
