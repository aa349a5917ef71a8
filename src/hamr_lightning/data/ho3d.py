"""HO-3D v2 and v3 (Hampali et al., CVPR 2020), as they are published."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.spatial.transform import Rotation

from hamr_lightning.data.annotation_cache import cached_annotation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_json_arrays, read_rgb, resolve_root
from hamr_lightning.data.pinhole import FROM_INDICES, project
from hamr_lightning.hand_model import HandModel
from hamr_lightning.registry import register
from hamr_lightning.safe_pickle import StandIn, dense, loads
from hamr_lightning.skeleton import JOINT_COUNT, MANO_TO_JOINTS, ROOT

_FOLDERS: Final = {"train": "train", "val": "evaluation"}
_TO_CAMERA: Final = np.array([1, -1, -1], np.float32)
"""From OpenGL's axes (x right, y up, z backward)."""
_TURN_TO_CAMERA: Final = Rotation.from_rotvec([math.pi, 0, 0])
_TRIED: Final = 100
_TRUTH: Final = {"xyz": (21, 3), "verts": (778, 3)}


@dataclass(frozen=True)
class _Edition:
    name: str
    picture: str
    published: Mapping[str, int]
    segmentation: str
    hand_channel: int


_EDITIONS: Final = (
    _Edition("v2", ".png", {"train": 66_034, "val": 11_524}, ".jpg", hand_channel=0),
    _Edition("v3", ".jpg", {"train": 83_325, "val": 20_137}, ".png", hand_channel=2),
)


@register("dataset", "ho3d")
class Ho3dDataset(HandDataset):
    """Photographs of right hands that hold things, 640 x 480 pixels; v2 if they are PNG, v3 if they are JPEG.

    The samples are those that ``train.txt`` or ``evaluation.txt`` names, in their order; HO-3D's other pictures have no
    annotation. Should the file name one of these, reading it raises ValueError, which training skips and counts.

    Of an evaluation hand, the joints and vertices were published later; with ``evaluation_xyz.json`` and
    ``evaluation_verts.json`` in the root they are given, else its root joint alone. Its box is HO-3D's, either way, so
    that predictions do not depend on these files. The vertices of training hands are not in the data set.

    Masks are HO-3D's own rendered segmentations, of the part of the hand that is seen. They have a quarter of the
    pictures' resolution and are enlarged: a border is up to two pixels off. They exist for training hands, in an
    archive of their own, which may lie in ``train/<sequence>/seg`` or in
    ``HO3D_v?_segmentations_rendered/train/<sequence>/seg``.

    ``vertices``, ``global_orient``, ``hand_pose`` and ``betas`` are MANO's, so they are given if ``hand`` is a MANO
    file; to another hand model they mean nothing. HO-3D's poses contain MANO's mean pose. Its camera is a RealSense's,
    with a pixel's centre at whole numbers.

    Args:
        root: The folder ``HO3D_v2`` or ``HO3D_v3``, which holds ``train``, ``evaluation`` and the two lists.
        split: "train" for ``train``, "val" for ``evaluation``.
        hand: The decoder's right hand model, or what :meth:`HandModel.load` takes.

    Raises:
        ValueError: If the list or the published evaluation is missing, broken, or of another length; the message names
            the file.
    """

    def __init__(
        self, root: str | Path, split: Literal["train", "val"] = "train", hand: HandModel | str = "open"
    ) -> None:
        if split not in _FOLDERS:
            raise ValueError(f"Ho3dDataset: split must be one of {', '.join(_FOLDERS)}, got {split!r}")
        root = resolve_root(root)
        self._folder = root / _FOLDERS[split]
        self._frames = _read_frames(root / f"{_FOLDERS[split]}.txt")
        self._edition = _find_edition(self._folder, self._frames)
        self._truth = _read_truth(root, len(self._frames)) if split == "val" else {}
        self._segmentations = _find_segmentations(root, self._edition) if split == "train" else None
        self._has_mano = (hand if isinstance(hand, str) else hand.name) != "open"

    @property
    def published(self) -> Mapping[str, int]:
        """The number of pictures in each split of this version; see :attr:`HandDataset.published`."""
        return self._edition.published

    def __len__(self) -> int:
        """Return the number of pictures in the list."""
        return len(self._frames)

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the hand in a picture; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Ho3dDataset: index {index} is not in [0, {len(self)})")
        sequence, frame = self._frames[index]
        path = self._folder / sequence / "rgb" / f"{frame}{self._edition.picture}"
        image = read_rgb(path)
        meta = _Meta(self._folder / sequence / "meta" / f"{frame}.pkl")
        intrinsics = meta.array("camMat", 3, 3) + FROM_INDICES
        is_evaluation = self._folder.name == _FOLDERS["val"]
        joints, valid = self._evaluation_joints(index, meta) if is_evaluation else (_joints(meta), None)
        return HandSample(
            image=image,
            source=str(path),
            is_left=False,
            joints_2d_px=project(joints, intrinsics),
            joints_2d_valid=valid,
            joints_3d=joints,
            joints_3d_valid=valid,
            box_px=meta.array("handBoundingBox", 4) + 0.5 if is_evaluation else None,
            mask=self._read_mask(sequence, frame, image),
            intrinsics=intrinsics,
            **self._hand_model_annotation(index, meta),
        )

    def _evaluation_joints(
        self, index: int, meta: "_Meta"
    ) -> tuple[Float[np.ndarray, "21 3"], Bool[np.ndarray, "21"] | None]:
        if "xyz" in self._truth:
            return _TO_CAMERA * self._truth["xyz"][index][list(MANO_TO_JOINTS)], None
        root = _TO_CAMERA * meta.array("handJoints3D", 3)
        return np.tile(root, (JOINT_COUNT, 1)), np.arange(JOINT_COUNT) == ROOT

    def _hand_model_annotation(self, index: int, meta: "_Meta") -> dict[str, Float[np.ndarray, "..."]]:
        if not self._has_mano:
            return {}
        if self._folder.name == _FOLDERS["train"]:
            return _hand_parameters(meta)
        return {"vertices": _TO_CAMERA * self._truth["verts"][index]} if "verts" in self._truth else {}

    def _read_mask(
        self, sequence: str, frame: str, image: UInt8[np.ndarray, "h w 3"]
    ) -> UInt8[np.ndarray, "h w"] | None:
        if self._segmentations is None:
            return None
        path = self._segmentations / sequence / "seg" / f"{frame}{self._edition.segmentation}"
        is_bright = read_rgb(path) >= 128
        is_hand = is_bright[..., self._edition.hand_channel] & (is_bright.sum(axis=-1) == 1)
        share = cv2.resize(255 * is_hand.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.where(share >= 128, np.uint8(255), np.uint8(0))


class _Meta:
    """One picture's annotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise ValueError(f"{path} is missing; unpack it again from the data set's archive")
        try:
            self._fields = loads(path.read_bytes(), names={})
        except Exception as error:
            raise ValueError(f"{path} cannot be read as HO-3D's annotation: {error}") from error
        if not isinstance(self._fields, dict):
            raise ValueError(f"{path} is not HO-3D's annotation, a dict: it is a {type(self._fields).__name__}")

    def array(self, name: str, *shape: int) -> Float[np.ndarray, "*shape"]:
        """Return a field, in which axes of length 1 do not count."""
        if self._fields.get(name) is None:
            raise ValueError(
                f"{self._path}: {name} is not annotated; take the picture out of the list beside the folder"
            )
        try:
            array = np.squeeze(_numbers(self._fields[name]))
        except Exception as error:
            raise ValueError(f"{self._path}: {name} cannot be read: {error}") from error
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{self._path}: {name} must have shape {shape} and be finite, got shape {array.shape}")
        return array


def _numbers(value: Any) -> np.ndarray:
    if isinstance(value, list | tuple):
        return np.array([_numbers(item) for item in value], np.float32)
    return np.array(dense(value) if isinstance(value, StandIn) else value, np.float32)


def _joints(meta: _Meta) -> Float[np.ndarray, "21 3"]:
    return _TO_CAMERA * meta.array("handJoints3D", 21, 3)[list(MANO_TO_JOINTS)]


def _hand_parameters(meta: _Meta) -> dict[str, Float[np.ndarray, "_"]]:
    pose = meta.array("handPose", 48)
    orient = _TURN_TO_CAMERA * Rotation.from_rotvec(pose[:3])
    return {"global_orient": orient.as_rotvec(), "hand_pose": pose[3:], "betas": meta.array("handBeta", 10)}


def _read_frames(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; root must name the folder HO3D_v2 or HO3D_v3, which holds it")
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    for number, line in enumerate(lines):
        if line.count("/") != 1 or line.startswith("/") or line.endswith("/"):
            raise ValueError(f"{path}: entry {number} must be <sequence>/<picture>, got {line[:80]!r}")
    if not lines:
        raise ValueError(f"{path} names no picture; unpack it again from the data set's archive")
    return [(line.split("/")[0], line.split("/")[1]) for line in lines]


def _find_edition(folder: Path, frames: Sequence[tuple[str, str]]) -> _Edition:
    for sequence, frame in frames[:_TRIED]:  # the first may be missing
        for edition in _EDITIONS:
            if (folder / sequence / "rgb" / f"{frame}{edition.picture}").is_file():
                return edition
    sequence, frame = frames[0]
    raise ValueError(
        f"{folder / sequence / 'rgb' / frame}.png (v2) or .jpg (v3) is missing, which {folder.name}.txt names first; "
        "unpack it again from the data set's archive"
    )


def _find_segmentations(root: Path, edition: _Edition) -> Path | None:
    own = root / f"HO3D_{edition.name}_segmentations_rendered" / "train"
    for folder in (own, root / "train"):
        if any(folder.glob("*/seg")):
            return folder
    warnings.warn(f"{own} is missing: no hand has a mask; unpack its archive in {root}", stacklevel=3)
    return None


def _read_truth(root: Path, count: int) -> Mapping[str, np.ndarray]:
    paths = {field: root / f"evaluation_{field}.json" for field in _TRUTH}
    paths = {field: path for field, path in paths.items() if path.exists()}
    truth = cached_annotation("ho3d-1", list(paths.values()), partial(_decode_truth, paths)) if paths else {}
    for field, arrays in truth.items():
        if len(arrays) != count:
            raise ValueError(
                f"{paths[field]} has {len(arrays)} entries where evaluation.txt beside it names {count} pictures; "
                "take both from the same version of HO-3D"
            )
    return truth


def _decode_truth(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    return {field: read_json_arrays(path, _TRUTH[field]) for field, path in paths.items()}
