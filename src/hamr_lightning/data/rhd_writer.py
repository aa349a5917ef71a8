"""Writes rendered hands in RHD's own layout, so that whatever reads RHD can use them."""

import pickle
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from hamr_lightning.atomic import written_whole
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.pinhole import project
from hamr_lightning.data.processes import map_indices
from hamr_lightning.hand_model import HandModel
from hamr_lightning.rasterizer import rasterize
from hamr_lightning.skeleton import FINGERS, MANO_JOINT_NAMES

SIZE: Final = 320
"""Side of RHD's pictures in pixels."""

_FOLDERS: Final = {"train": "training", "val": "evaluation"}
_TIP_TO_BASE: Final = np.array([0, *(joint for joints in FINGERS.values() for joint in reversed(joints))])
_PARTS: Final = [f"{finger}_{part}" for finger in FINGERS for part in "321"] + ["wrist"]
_FIRST_PART: Final = {True: 2, False: 18}
_FARTHEST: Final = 5.0
_OUTSIDE_PX: Final = 20.0
_FLESH: Final = 0.03
_MIRROR: Final = np.array([-1.0, 1.0, 1.0])


def write_rhd(
    root: Path,
    split: str,
    dataset: HandDataset,
    hand: HandModel,
    workers: int = 0,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda results, total: results,
) -> None:
    """Write a split of RHD: ``color/``, ``mask/``, ``depth/`` and, when all of them are whole, the annotation.

    Every other hand, the first one among them, is mirrored to a left one. The hand of the other side is its mirror
    image, beside the picture and not visible. In the mask a hand's parts are told apart by the joint that holds most of
    them, tip to base as the key points are; all else is background (RHD's own masks also tell persons from it).

    Args:
        root: Where ``training`` and ``evaluation`` belong.
        split: "train" writes ``training``, "val" ``evaluation``.
        dataset: Right hands in pictures of 320 x 320 pixels with all annotation, such as ``synthetic`` renders.
        hand: The hand model that they are rendered from.
        workers: Processes, at least 0; with 0 the calling process does the work.
        progress: Is given the results as they come and their number, and passes them on.

    Raises:
        OSError: If a file cannot be written.
        UserError: If a worker process dies.
    """
    folder = root / _FOLDERS[split]
    for name in ("color", "mask", "depth"):
        (folder / name).mkdir(parents=True)
    labels = _face_labels(hand)
    work = partial(_write_sample, folder, dataset, hand.faces, labels)
    annotation = dict(enumerate(progress(map_indices(work, len(dataset), workers), len(dataset))))
    # By NumPy 1's names, which NumPy 2 knows too: hand3d runs on the older one.
    content = pickle.dumps(annotation, protocol=2).replace(b"numpy._core", b"numpy.core")
    with written_whole(folder / f"anno_{_FOLDERS[split]}.pickle") as file:
        file.write_bytes(content)


def _write_sample(
    folder: Path,
    dataset: HandDataset,
    faces: Int[np.ndarray, "f 3"],
    labels: UInt8[np.ndarray, "f"],
    index: int,
) -> dict[str, np.ndarray]:
    sample = dataset.sample(index, 0)
    is_left = index % 2 == 0
    side = slice(None, None, -1 if is_left else 1)
    parts = _label_parts(sample, faces, labels)
    pictures = {
        "color": sample.image[..., ::-1],
        "mask": np.where(parts > 0, parts + np.uint8(_FIRST_PART[is_left] - 1), np.uint8(0)),
        "depth": _encode_depth(sample),
    }
    for name, picture in pictures.items():
        path = folder / name / f"{index:05d}.png"
        path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(picture[:, side]))[1].tobytes())
    return _annotate(sample, is_left)


def _face_labels(hand: HandModel) -> UInt8[np.ndarray, "f"]:
    """Return each triangle's part, counted from 1 as RHD's masks count a hand's."""
    rank = np.array([_PARTS.index(name) + 1 for name in MANO_JOINT_NAMES], np.uint8)
    return rank[hand.skinning_weights[hand.faces].mean(axis=1).argmax(axis=1)]


def _label_parts(
    sample: HandSample, faces: Int[np.ndarray, "f 3"], labels: UInt8[np.ndarray, "f"]
) -> UInt8[np.ndarray, "320 320"]:
    """Return the part in each pixel, 0 where no hand is."""
    assert sample.vertices is not None
    assert sample.mask is not None
    assert sample.intrinsics is not None
    points = np.column_stack([project(sample.vertices, sample.intrinsics), sample.vertices[:, 2]])
    face_index = rasterize(points, faces, SIZE, SIZE).face_index
    parts = np.where(face_index >= 0, labels[face_index], np.uint8(0))
    # The mask's border has pixels of which more than half, but not the centre, is the hand's; and the wrist is closed.
    around = cv2.dilate(parts, np.ones((3, 3), np.uint8))
    palm = np.uint8(len(_PARTS))
    return np.where(sample.mask > 127, np.where(parts > 0, parts, np.where(around > 0, around, palm)), np.uint8(0))


def _encode_depth(sample: HandSample) -> UInt8[np.ndarray, "320 320 3"]:
    """Return RHD's depth picture in OpenCV's order of channels: red the higher, green the lower byte of 5 m / 65535."""
    assert sample.depth is not None
    steps = np.round(np.minimum(sample.depth, _FARTHEST) / _FARTHEST * 65535).astype(np.uint16)
    return np.stack([np.zeros_like(steps), steps % 256, steps // 256], axis=2).astype(np.uint8)


def _annotate(sample: HandSample, is_left: bool) -> dict[str, np.ndarray]:
    assert sample.joints_3d is not None
    assert sample.intrinsics is not None
    shown = np.column_stack([sample.joints_3d, _is_visible(sample)])
    hidden = np.column_stack([_beside(sample.joints_3d * _MIRROR, sample.intrinsics), np.zeros(21)])
    hands = np.concatenate([hand[_TIP_TO_BASE] for hand in ((shown, hidden) if is_left else (hidden, shown))])
    K = sample.intrinsics.copy()
    if is_left:
        hands[:, 0] *= -1
        K[0, 2] = SIZE - K[0, 2]
    annotation = {
        "uv_vis": np.column_stack([project(hands[:, :3], K), hands[:, 3]]),
        "xyz": hands[:, :3],
        "K": K,
    }
    return {field: values.astype(np.float32) for field, values in annotation.items()}


def _beside(joints: Float[np.ndarray, "21 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "21 3"]:
    """Move a hand sideways until it is out of the picture."""
    border = (SIZE + _OUTSIDE_PX - intrinsics[0, 2]) / intrinsics[0, 0] * joints[:, 2]
    return joints + np.array([(border - joints[:, 0]).max(), 0, 0])


def _is_visible(sample: HandSample) -> Bool[np.ndarray, "21"]:
    """Tell for each joint whether it is in the picture and no more than flesh is before it."""
    assert sample.joints_3d is not None
    assert sample.depth is not None
    pixel = np.floor(sample.joints_2d_px).astype(int)
    inside = ((pixel >= 0) & (pixel < SIZE)).all(axis=1)
    x, y = pixel.clip(0, SIZE - 1).T
    return inside & (sample.joints_3d[:, 2] < sample.depth[y, x] + _FLESH)
