"""The hand model: MANO's arrays, from the open hand that ships with the library or from a MANO file."""

import hashlib
import io
import operator
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_matrix, csr_matrix

from hamr_lightning.registry import nearest
from hamr_lightning.safe_pickle import Names, RefusedPickleError, StandIn, dense, loads
from hamr_lightning.skeleton import FINGERTIP_VERTICES, MANO_PARENTS

_LAYOUT: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "vertices": ("v_template", (778, 3)),
    "faces": ("f", (1538, 3)),
    "shape_directions": ("shapedirs", (778, 3, 10)),
    "pose_directions": ("posedirs", (778, 3, 135)),
    "joint_regressor": ("J_regressor", (16, 778)),
    "skinning_weights": ("weights", (778, 16)),
    "pose_components": ("hands_components", (45, 45)),
    "pose_mean": ("hands_mean", (45,)),
}
"""Each array's key in MANO's files, and its shape."""


class HandModelError(ValueError):
    """A hand model's file is missing, refused or not what it should be."""


@dataclass(frozen=True, eq=False)
class HandModel:
    """The arrays of a MANO hand, in metres, in MANO's own joint and vertex order.

    At rest the fingers of a right hand point along -x and its palm faces -y. See :meth:`load`.

    Attributes:
        name: "open", or the file's stem.
        side: Which hand it is.
        vertices: The mean hand at rest.
        faces: Triangles, counter-clockwise from outside.
        shape_directions: Displacement of the vertices for a unit of each shape number.
        pose_directions: Displacement for each entry of the 15 finger joints' rotation matrices less the identity.
        joint_regressor: Makes joints from vertices.
        skinning_weights: Each joint's hold on each vertex.
        pose_components: Rows are the principal components of the 15 finger joints' axis-angle numbers.
        pose_mean: Their mean.
        fingertips: The vertices that serve as finger tips, thumb to pinky.
    """

    name: str
    side: Literal["right", "left"]
    vertices: Float[np.ndarray, "778 3"]
    faces: Int[np.ndarray, "1538 3"]
    shape_directions: Float[np.ndarray, "778 3 10"]
    pose_directions: Float[np.ndarray, "778 3 135"]
    joint_regressor: Float[np.ndarray, "16 778"]
    skinning_weights: Float[np.ndarray, "778 16"]
    pose_components: Float[np.ndarray, "45 45"]
    pose_mean: Float[np.ndarray, "45"]
    fingertips: Int[np.ndarray, "5"]

    @property
    def parents(self) -> Int[np.ndarray, "16"]:
        """Each joint's parent, -1 for the wrist."""
        return np.array(MANO_PARENTS)

    @property
    def fingerprint(self) -> str:
        """A short digest of the side and all arrays: hands that decode alike share it."""
        digest = hashlib.sha256(self.side.encode())
        for field in (*_LAYOUT, "fingertips"):
            digest.update(np.ascontiguousarray(getattr(self, field)).tobytes())
        return digest.hexdigest()[:16]

    @classmethod
    def load(
        cls,
        source: str | Path = "open",
        *,
        fingertips: str | Sequence[int] = "hamr",
        correct_left_shapes: bool = True,
    ) -> "HandModel":
        """Load the open hand, or a MANO file.

        A pickle is read without chumpy and without running any code that is in it. Whether it is a left hand is told
        by its fingers, which point along +x.

        Args:
            source: "open", or the path of ``MANO_RIGHT.pkl``, ``MANO_LEFT.pkl`` or an ``.npz`` with the same keys.
            fingertips: A convention's name (see :data:`hamr_lightning.skeleton.FINGERTIP_VERTICES`), or five vertices,
                thumb to pinky.
            correct_left_shapes: Whether to negate x of a left hand's shape directions: MANO_LEFT is distributed with
                the right hand's. A file that :meth:`save` wrote is taken as it is.

        Raises:
            HandModelError: If there is no such file, a pickle asks for anything that no MANO file contains, or an array
                is missing or wrong. The message names the file and the key.
        """
        tips = _fingertip_vertices(fingertips)
        path = Path(str(files("hamr_lightning") / "assets" / "open_hand.npz")) if source == "open" else Path(source)
        try:
            data = _read(path.expanduser())
            arrays = {field: _array(data, key, shape) for field, (key, shape) in _LAYOUT.items()}
            _check_vertices("f", arrays["faces"])
            _check_parents(_array(data, "kintree_table", (2, 16)))
            side = _side(data, arrays)
            if side == "left" and "side" not in data and correct_left_shapes:
                arrays["shape_directions"] = arrays["shape_directions"] * np.array([[-1.0], [1.0], [1.0]])
            return cls(name="open" if source == "open" else path.stem, side=side, fingertips=tips, **arrays)
        except HandModelError as error:
            raise HandModelError(f"{path}: {error}") from error

    def with_fingertips(self, fingertips: str | Sequence[int]) -> "HandModel":
        """Return the hand with the finger tips of another convention; see :meth:`load`."""
        return replace(self, fingertips=_fingertip_vertices(fingertips))

    def save(self, path: str | Path) -> None:
        """Write the hand in MANO's form: ``.npz``, or a ``.pkl`` that smplx's and manopth's MANO classes load.

        The finger tips are not written: they are a convention, not part of a MANO file.

        Raises:
            HandModelError: If the suffix is another.
        """
        path = Path(path)
        content: dict[str, Any] = {key: getattr(self, field) for field, (key, _) in _LAYOUT.items()}
        content |= {
            "f": self.faces.astype(np.uint32),
            "J": self.joint_regressor @ self.vertices,
            "kintree_table": np.array([self.parents, np.arange(16)]).astype(np.uint32),
            "bs_style": "lbs",
            "bs_type": "lrotmin",
            "side": self.side,
        }
        if path.suffix == ".npz":
            np.savez_compressed(path, **content)
        elif path.suffix == ".pkl":
            content["J_regressor"] = csc_matrix(self.joint_regressor)
            path.write_bytes(pickle.dumps(content, protocol=4))
        else:
            raise HandModelError(f"{path}: a hand is saved as .npz or .pkl, not as {path.suffix!r}")


def _fingertip_vertices(fingertips: str | Sequence[int]) -> np.ndarray:
    if not isinstance(fingertips, str):
        tips = np.array([operator.index(vertex) for vertex in fingertips])
        if tips.shape != (5,):
            raise HandModelError(f"fingertips: expected 5 vertices, thumb to pinky, got {len(tips)}")
        _check_vertices("fingertips", tips)
        return tips
    if fingertips not in FINGERTIP_VERTICES:
        raise HandModelError(
            f"fingertips: no convention is named {fingertips!r}; {nearest(fingertips, list(FINGERTIP_VERTICES))}"
        )
    return np.array(FINGERTIP_VERTICES[fingertips])


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise HandModelError(
            "there is no such file. MANO's are to be had, after registration, from https://mano.is.tue.mpg.de; "
            "the hand named 'open' needs none"
        ) from error
    except OSError as error:
        raise HandModelError(f"cannot be read: {error.strerror}") from error
    try:
        if content.startswith(b"PK"):
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return dict(archive)
        data = loads(content, _STAND_INS)
    except RefusedPickleError as error:
        raise HandModelError(str(error)) from error
    except Exception as error:
        raise HandModelError(f"is neither a pickle nor an .npz of arrays ({type(error).__name__}: {error})") from error
    if not isinstance(data, dict):
        raise HandModelError(f"expected a dictionary of arrays, found {type(data).__name__}")
    return data


def _array(data: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key not in data:
        raise HandModelError(f"the key {key!r} is missing; found {', '.join(map(str, data))}")
    try:
        array = dense(data[key])
    except Exception as error:
        raise HandModelError(f"{key}: cannot be read ({type(error).__name__}: {error})") from error
    kinds, dtype = ("iu", np.int64) if key in ("f", "kintree_table") else ("fiu", np.float64)
    if array.dtype.kind not in kinds:
        raise HandModelError(f"{key}: expected {np.dtype(dtype).name}, found {array.dtype}")
    if array.shape != shape:
        raise HandModelError(f"{key}: expected shape {shape}, found {array.shape}")
    if not np.isfinite(array).all():
        raise HandModelError(f"{key}: {np.sum(~np.isfinite(array))} of {array.size} numbers are not finite")
    return array.astype(dtype)


def _check_vertices(key: str, vertices: np.ndarray) -> None:
    if vertices.min() < 0 or vertices.max() > 777:
        raise HandModelError(f"{key}: expected vertices 0 to 777, found {vertices.min()} to {vertices.max()}")


def _check_parents(kintree_table: np.ndarray) -> None:
    if tuple(kintree_table[0, 1:]) != MANO_PARENTS[1:]:
        raise HandModelError(f"kintree_table: expected the parents {MANO_PARENTS}, found {kintree_table[0].tolist()}")


def _side(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Literal["right", "left"]:
    if "side" in data:
        return "left" if str(data["side"]) == "left" else "right"
    from_wrist = arrays["vertices"] - arrays["joint_regressor"][0] @ arrays["vertices"]
    return "left" if from_wrist[:, 0].mean() > 0 else "right"


class _Ch(StandIn):
    def dense(self) -> np.ndarray:
        return dense(self.state["x"])


class _Select(StandIn):
    def dense(self) -> np.ndarray:
        kept = dense(self.state["idxs"])
        return dense(self.state["a"]).ravel()[kept].reshape(self.state["preferred_shape"])


class _CompressedColumns(StandIn):
    def dense(self) -> np.ndarray:
        return _dense_from_compressed(csc_matrix, self.state)


class _CompressedRows(StandIn):
    def dense(self) -> np.ndarray:
        return _dense_from_compressed(csr_matrix, self.state)


def _dense_from_compressed(kind: Callable[..., Any], state: dict[str, Any]) -> np.ndarray:
    matrix = kind(tuple(dense(state[key]) for key in ("data", "indices", "indptr")), shape=state["_shape"])
    # SciPy's loops trust the indices: without this check they would write outside the matrix.
    matrix.check_format(full_check=True)
    return matrix.toarray()


def _empty_stand_in(kind: type[StandIn], base: type, state: None) -> StandIn:
    return kind()


_STAND_INS: Final[Names] = {
    ("chumpy.ch", "Ch"): _Ch,
    ("chumpy.reordering", "Select"): _Select,
    ("scipy.sparse.csc", "csc_matrix"): _CompressedColumns,
    ("scipy.sparse._csc", "csc_matrix"): _CompressedColumns,
    ("scipy.sparse._csc", "csc_array"): _CompressedColumns,
    ("scipy.sparse.csr", "csr_matrix"): _CompressedRows,
    ("scipy.sparse._csr", "csr_matrix"): _CompressedRows,
    ("scipy.sparse._csr", "csr_array"): _CompressedRows,
    ("__builtin__", "set"): set,
    ("__builtin__", "object"): object,
    ("copy_reg", "_reconstructor"): _empty_stand_in,
}
"""What a pickle may name beside arrays: what is in the official files, and how other versions of Python and SciPy write
the same."""
