"""Dexter+Object (Sridhar et al., ECCV 2016), as it is published."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float

from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_rgb, resolve_root
from hamr_lightning.data.pinhole import FROM_INDICES, camera_matrix, project
from hamr_lightning.registry import register
from hamr_lightning.skeleton import FINGERTIPS, JOINT_COUNT

_SEQUENCES: Final = ("Grasp1", "Grasp2", "Occlusion", "Rigid", "Pinch", "Rotate")
_LABELS: Final = {"published": "{}3D.txt", "corrected": "my_{}3D.txt"}
_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
_SIZE: Final = (640, 480)
_MISSING_DEPTH: Final = 32001
_HAND_LENGTH: Final = 0.2
_TIPS: Final = np.array(FINGERTIPS)

_INTRINSICS: Final = camera_matrix(587.45209, 600.67456, 325.0, 249.0) + FROM_INDICES
_LABEL_AXES: Final = np.array([-1, -1, 1])
_TO_COLOUR: Final = np.array([[0.9999, 0.0034, 0.0161], [-0.0033, 1, -0.0079], [-0.0162, 0.0079, 0.9998]])
_TO_COLOUR_MM: Final = np.array([19.0473, -1.8514, -4.7501])


@register("dataset", "dexter_object")
class DexterObjectDataset(HandDataset):
    """Left hands that hold a box, of two people, with finger tips annotated by hand; for evaluation only.

    Only the five finger tips are valid, of them only those that have a depth. The set also tells where a tip without a
    depth is in the depth picture; without its depth that says nothing of the colour picture, so it is not used. A
    frame without any valid tip is left out. 3D is in the colour camera's axes and 2D is its projection, by the
    calibration that comes with the set, which is taken to count pixels by index, the first one's centre at 0: 0.5 is
    added to the principal point.

    The box is a square around the tips' median, as wide as 0.2 m are at their median depth, so that a wrong label,
    which the set has, does not move it far. With a margin of 1.6 it has all 21 joints of 98.8 % of randomly posed,
    shaped and viewed hands, of 98.5 % where three tips in ten are missing; the crop is then, in the median, 1.5 times
    as wide as one around all joints.

    Args:
        root: The folder that holds ``data``, with a folder for each of the six sequences.
        split: "val"; the set has no other.
        labels: "published" for the set's own ``<sequence>3D.txt``; "corrected" for ``my_<sequence>3D.txt`` beside them,
            which Minimal-Hand-pytorch offers for download and which leaves out tips that are plainly wrong.

    Raises:
        ValueError: If an option is not known, a sequence is not there, or its labels are broken or not as many as its
            pictures; the message names the file.
    """

    def __init__(
        self, root: str | Path, split: Literal["val"] = "val", labels: Literal["published", "corrected"] = "published"
    ) -> None:
        if split != "val":
            raise ValueError(f"DexterObjectDataset: split must be val, the set is for evaluation only, got {split!r}")
        if labels not in _LABELS:
            raise ValueError(f"DexterObjectDataset: labels must be one of {', '.join(_LABELS)}, got {labels!r}")
        folder = resolve_root(root) / "data"
        paths = [folder / name / "annotations" / _LABELS[labels].format(name) for name in _SEQUENCES]
        annotated = [_read_labels(path) for path in paths]
        pictures = [
            _list_pictures(folder / name / "color", path, len(tips))
            for name, path, tips in zip(_SEQUENCES, paths, annotated, strict=True)
        ]
        tips, valid = _to_colour(np.concatenate(annotated))
        kept = np.flatnonzero(valid.any(axis=1))
        every_picture = [path for sequence in pictures for path in sequence]
        self._pictures = [every_picture[frame] for frame in kept]
        self._tips, self._valid = tips[kept], valid[kept]
        self.left_out = len(every_picture) - len(kept)
        """The number of frames without any valid tip."""

    def __len__(self) -> int:
        """Return the number of frames with a valid tip."""
        return len(self._pictures)

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the hand of a frame; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"DexterObjectDataset: index {index} is not in [0, {len(self)})")
        joints, valid = np.zeros((JOINT_COUNT, 3)), np.zeros(JOINT_COUNT, dtype=bool)
        joints[_TIPS], valid[_TIPS] = self._tips[index], self._valid[index]
        joints_px = np.zeros((JOINT_COUNT, 2))
        joints_px[valid] = project(joints[valid], _INTRINSICS)
        path = self._pictures[index]
        return HandSample(
            image=read_rgb(path, _SIZE),
            source=str(path),
            is_left=True,
            joints_2d_px=joints_px,
            joints_2d_valid=valid,
            joints_3d=joints,
            joints_3d_valid=valid,
            box_px=_box(joints_px[valid], joints[valid, 2]),
            intrinsics=_INTRINSICS,
        )


def _box(tips_px: Float[np.ndarray, "t 2"], depths: Float[np.ndarray, "t"]) -> Float[np.ndarray, "4"]:
    half_side = _HAND_LENGTH / 2 * _INTRINSICS[1, 1] / np.median(depths)
    centre = np.median(tips_px, axis=0)
    return np.concatenate([centre - half_side, centre + half_side])


def _to_colour(
    labels: Float[np.ndarray, "n 5 3"],
) -> tuple[Float[np.ndarray, "n 5 3"], Bool[np.ndarray, "n 5"]]:
    """Return the tips in metres in the colour camera's axes, zero where not valid, and which ones are valid."""
    tips = ((labels * _LABEL_AXES) @ _TO_COLOUR.T + _TO_COLOUR_MM) / 1000
    valid = (labels[..., 2] != _MISSING_DEPTH) & (tips[..., 2] > 0)
    return np.where(valid[..., None], tips, 0), valid


def _list_pictures(folder: Path, labels: Path, count: int) -> list[Path]:
    found = [path for path in folder.glob("*") if path.suffix.lower() in _PICTURES]
    if len(found) != count:
        raise ValueError(
            f"{labels} has {count} lines, but {folder} has {len(found)} pictures, where one line is for one picture; "
            "unpack both again from the data set's archive"
        )
    return sorted(found, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path.stem)])


def _read_labels(path: Path) -> Float[np.ndarray, "n 5 3"]:
    """Read a line for each frame, "x, y, z; ..." for thumb to little finger in millimetres; x is left and y up."""
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; root must name the folder that holds data/Grasp1/{{annotations,color}}, ... of all "
            "six sequences"
        )
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    if not lines:
        raise ValueError(f"{path} is empty; unpack it again from the data set's archive")
    return np.stack([_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)])


def _parse(line: str, place: str) -> Float[np.ndarray, "5 3"]:
    """Take the first five points of a line; the box's corners may follow."""
    try:
        tips = np.array([_point(text) for text in line.split(";")[:5]]).reshape(5, 3)
    except ValueError as error:
        raise ValueError(f"{place} must begin with five points 'x, y, z;', got {line[:80]!r}: {error}") from error
    if not np.isfinite(tips).all():
        raise ValueError(f"{place} must hold finite numbers, got {line[:80]!r}")
    return tips


def _point(text: str) -> Sequence[float]:
    return [float(number) for number in text.split(",")]
