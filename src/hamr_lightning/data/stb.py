"""The Stereo Hand Pose Tracking Benchmark (STB; Zhang et al., ICIP 2017), as it is published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from hamr_lightning.data.annotation_cache import cached_annotation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.files import read_rgb, resolve_root
from hamr_lightning.data.pinhole import FROM_INDICES, camera_matrix, project
from hamr_lightning.registry import register
from hamr_lightning.skeleton import FINGERS, ROOT

_BACKGROUNDS: Final = {"train": (2, 3, 4, 5, 6), "val": (1,)}
_FRAMES: Final = {"train": 15_000, "val": 3_000}
_SIZE: Final = (640, 480)
_ORDER: Final = np.array([0, *range(17, 21), *range(13, 17), *range(9, 13), *range(5, 9), *range(1, 5)])
"""Indexes STB's joints (palm, then pinky to thumb, each base to tip) into the library's order."""

_ROOTS: Final = {
    "hand3d": (FINGERS["ring"][0], 2.0),
    "bihand": (FINGERS["middle"][0], 2.2),
    "palm": (FINGERS["ring"][0], 1.0),
}
"""The knuckle from which the root is found, and how many times as far from it as the palm's centre the root lies."""


@dataclass(frozen=True)
class _View:
    """A camera. Its labels are at ``rotation @ x + translation``, in metres, for x in the camera's axes."""

    labels: str
    intrinsics: Float[np.ndarray, "3 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]


_BUMBLEBEE: Final = camera_matrix(822.79041, 822.79041, 318.47345, 250.31296) + FROM_INDICES
_REALSENSE: Final = camera_matrix(607.92271, 607.88192, 314.78337, 236.42484) + FROM_INDICES
_VIEWS: Final = {
    "BB_left": _View("BB", _BUMBLEBEE, np.eye(3), np.zeros(3)),
    "BB_right": _View("BB", _BUMBLEBEE, np.eye(3), np.array([0.120054, 0, 0])),
    "SK_color": _View(
        "SK",
        _REALSENSE,
        Rotation.from_rotvec([0.00531, -0.01196, 0.00301]).as_matrix(),
        np.array([-0.0240381, -0.0004563, -0.0012326]),
    ),
}
_CAMERAS: Final = {
    "both": ("BB_left", "SK_color"),
    "BB": ("BB_left",),
    "SK": ("SK_color",),
    "stereo": ("BB_left", "BB_right"),
}


@register("dataset", "stb")
class StbDataset(HandDataset):
    """A left hand before six backgrounds, filmed by a stereo camera (BB) and a depth camera (SK), 640 x 480 pixels.

    The samples come sequence by sequence (B2Counting, B2Random, B3Counting, ...), in a sequence camera by camera, and
    then frame by frame. 3D is in the axes of the camera that took the picture: SK's labels, which are in its depth
    camera's, are moved to its colour camera by the published calibration. 2D is their projection. There are no masks.

    STB annotates the palm's centre and no wrist. The published calibrations are taken to count pixels by index, the
    first one's centre at 0: 0.5 is added to their principal points.

    Figures on STB compare only where pictures and root do. hand3d's own evaluation has the stereo camera's pictures
    and the palm as root ("stereo", "palm"), bihand's the depth camera's and a wrist ("SK", "bihand").

    Args:
        root: The folder that holds ``images`` and ``labels``.
        split: "train" for the backgrounds B2 to B6, "val" for B1.
        camera: "BB" for the stereo camera's left pictures, "SK" for the depth camera's colour pictures, "both" for
            these two, "stereo" for the stereo camera's left and right pictures.
        root_joint: What stands at the root: "hand3d" (Zimmermann and Brox, ICCV 2017) a wrist on the line from the ring
            finger's knuckle through the palm's centre, 2 times as far; "bihand" (Yang et al., BMVC 2020) one from the
            middle finger's knuckle, 2.2 times as far; "palm" the palm's centre as annotated.

    Raises:
        ValueError: If an option is not known, a sequence is not there whole, or labels are broken; the message names
            the file.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"] = "train",
        camera: Literal["both", "BB", "SK", "stereo"] = "both",
        root_joint: Literal["hand3d", "bihand", "palm"] = "hand3d",
    ) -> None:
        _check_choice("split", split, _BACKGROUNDS)
        _check_choice("camera", camera, _CAMERAS)
        _check_choice("root_joint", root_joint, _ROOTS)
        folder = resolve_root(root)
        sequences = [f"B{number}{kind}" for number in _BACKGROUNDS[split] for kind in ("Counting", "Random")]
        self._images = folder / "images"
        self._root_joint = root_joint
        self._published = {name: len(_CAMERAS[camera]) * count for name, count in _FRAMES.items()}
        self._parts = [(sequence, view) for sequence in sequences for view in _CAMERAS[camera]]
        paths = [folder / "labels" / f"{sequence}_{_VIEWS[view].labels}.mat" for sequence, view in self._parts]
        self._labels = _cached_labels(list(dict.fromkeys(paths)))
        counts = [len(self._labels[path.stem]) for path in paths]
        for part, path, count in zip(self._parts, paths, counts, strict=True):
            _check_pictures(path, count, self._images, *part)
        self._ends = np.cumsum(counts)

    @property
    def published(self) -> Mapping[str, int]:
        """The number of pictures that the chosen cameras took; see :attr:`HandDataset.published`."""
        return self._published

    def __len__(self) -> int:
        """Return the number of pictures."""
        return int(self._ends[-1])

    def sample(self, index: int, epoch: int = 0) -> HandSample:
        """Return the hand of a picture; see :meth:`HandDataset.sample`."""
        if not 0 <= index < len(self):
            raise IndexError(f"StbDataset: index {index} is not in [0, {len(self)})")
        part = int(np.searchsorted(self._ends, index, side="right"))
        sequence, name = self._parts[part]
        view = _VIEWS[name]
        labels = self._labels[f"{sequence}_{view.labels}"]
        frame = index - int(self._ends[part]) + len(labels)
        joints = _with_root((labels[frame] - view.translation) @ view.rotation, self._root_joint)
        path = _picture(self._images, sequence, name, frame)
        return HandSample(
            image=read_rgb(path, _SIZE),
            source=str(path),
            is_left=True,
            joints_2d_px=project(joints, view.intrinsics),
            joints_3d=joints,
            intrinsics=view.intrinsics,
        )


def _check_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise ValueError(f"StbDataset: {name} must be one of {', '.join(choices)}, got {value!r}")


def _picture(images: Path, sequence: str, view: str, frame: int) -> Path:
    return images / sequence / f"{view}_{frame}.png"


def _with_root(joints: Float[np.ndarray, "21 3"], root_joint: str) -> Float[np.ndarray, "21 3"]:
    knuckle, factor = _ROOTS[root_joint]
    joints[ROOT] = joints[knuckle] + factor * (joints[ROOT] - joints[knuckle])
    return joints


def _check_pictures(labels: Path, count: int, images: Path, sequence: str, view: str) -> None:
    """Look at the last frame and the one after it only: a folder has 6,000 files, maybe on a network disk."""
    if not _picture(images, sequence, view, count - 1).is_file() or _picture(images, sequence, view, count).exists():
        pictures = sum(1 for _ in (images / sequence).glob(f"{view}_*.png"))
        raise ValueError(
            f"{labels} has {count} frames, but {images / sequence} has {pictures} pictures {view}_*.png, "
            f"which must be numbered 0 to {count - 1}; unpack both again from the data set's archives"
        )


def _cached_labels(paths: Sequence[Path]) -> Mapping[str, np.ndarray]:
    """Return each file's joints in its own frame, in metres and the library's order, the palm's centre at the root."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{missing[0]} is missing, the first of {len(missing)} missing of {len(paths)} label files; root must name "
            "the folder that holds images/B1Counting, ... and labels/B1Counting_BB.mat, ... of all sequences"
        )
    return cached_annotation("stb-1", paths, lambda: {path.stem: _read_labels(path) for path in paths})


def _read_labels(path: Path) -> Float[np.ndarray, "n 21 3"]:
    try:
        labels = loadmat(path, variable_names=("handPara",))["handPara"]
    except Exception as error:  # scipy raises many kinds for a broken file
        raise ValueError(
            f"{path} cannot be read as STB's labels, a MATLAB file with an array handPara: {error!r}; "
            "unpack it again from the data set's archive"
        ) from error
    if labels.dtype.kind not in "fiu" or labels.ndim != 3 or labels.shape[:2] != (3, 21) or not labels.size:
        raise ValueError(f"{path}: handPara must be numbers of shape (3, 21, frames), got {labels.shape}")
    joints = labels.transpose(2, 1, 0)[:, _ORDER].astype(np.float64) / 1000
    broken = ~(np.isfinite(joints).all(axis=(1, 2)) & (joints[..., 2] > 0).all(axis=1))
    if broken.any():
        raise ValueError(
            f"{path}: handPara of frame {broken.argmax()} must be finite and before the camera (z above 0); "
            f"so it is in {np.count_nonzero(~broken)} of {len(broken)} frames; unpack it again from the archive"
        )
    return joints
