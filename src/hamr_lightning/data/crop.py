"""From a sample to a batch of one: crop around the hand, augment, mirror left hands, make 3D relative to the root."""

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandSample
from hamr_lightning.skeleton import JOINT_COUNT, ROOT
from hamr_lightning.types import HandBatch

_MANO_VERTEX_COUNT = 778
_FINEST = 16  # bounds the memory that a wrong key point, far outside, can ask for
_MIRROR_ROTATION = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class HandCrop:
    """Cuts a square around the hand and turns everything annotated with it.

    The image is first turned by the drawn rotation, then the box of the valid 2D joints is taken, so that a hand fills
    a turned crop as it fills a plain one; where the sample has a box of its own, the square is around that. Cutting,
    turning, scaling and mirroring are one affine map with bilinear sampling; where it shrinks the image, it samples on
    a grid some whole number of times finer, of which it takes means. Beyond the source image the crop is black.

    Raises:
        ValueError: If ``size`` or ``margin`` is out of bounds.
    """

    size: int = 256
    """Side of the crop in pixels, at least 8."""
    margin: float = 1.6
    """Side of the crop as a multiple of the joints' longer extent, at least 1. With 1.6 the whole surface is inside for
    99.6 % of randomly posed, shaped and viewed hands; a scale of 1.2 cuts something, mostly the wrist, of 14 %."""
    augmentation: Augmentation = field(default_factory=Augmentation.none)

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"image_size must be at least 8 pixels, got {self.size}")
        if not (math.isfinite(self.margin) and self.margin >= 1):
            raise ValueError(f"margin must be at least 1, the joints' own extent, got {self.margin}")

    def __call__(self, sample: HandSample, generator: np.random.Generator) -> HandBatch:
        """Crop a sample to a batch of one that has every field; what is not annotated is zero and not valid.

        Raises:
            ValueError: If the valid 2D joints give no box to crop.
        """
        scale, rotation = self.augmentation.draw_geometry(generator)
        turn = _rotation_matrix(rotation)
        crop_to_image = _crop_to_image(sample, turn[:2, :2], self.margin / scale)
        mirror = np.diag([-1.0 if sample.is_left else 1.0, 1.0, 1.0])
        to_image = crop_to_image @ mirror
        image = _warp(sample.image, to_image, self.size)
        image = self.augmentation.recolour(image, generator)
        return HandBatch(
            image=_tensor(image.transpose(2, 0, 1)),
            **_planar_annotation(sample, to_image, self.size),
            **_spatial_annotation(sample, mirror @ turn),
            **_hand_model_annotation(sample, turn),
            mirrored=torch.tensor([sample.is_left]),
            crop_to_image=_tensor(crop_to_image[:2]),
            image_size_px=_tensor(np.array(sample.image.shape[1::-1])),
            sources=(sample.source,),
        )


def _crop_to_image(sample: HandSample, turn: Float[np.ndarray, "2 2"], margin: float) -> Float[np.ndarray, "3 3"]:
    centre, extent = _centre_and_extent(sample, turn)
    if not (math.isfinite(extent) and extent >= 1):
        raise ValueError(
            f"{sample.source}: no hand to crop, its {'valid 2D joints' if sample.box_px is None else 'box'} span "
            "less than 1 pixel; mend or leave out the sample"
        )
    half_side = margin * extent / 2
    matrix = np.eye(3)
    matrix[:2, :2] = half_side * turn.T
    matrix[:2, 2] = turn.T @ centre
    return matrix


def _centre_and_extent(sample: HandSample, turn: Float[np.ndarray, "2 2"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Return the turned hand's middle, and its longer side."""
    if sample.box_px is not None:
        corners = sample.box_px.reshape(2, 2).astype(np.float64)
        return turn @ corners.mean(axis=0), np.ptp(corners, axis=0).max()
    valid = sample.joints_2d_valid
    joints = sample.joints_2d_px if valid is None else sample.joints_2d_px[valid]
    if not len(joints):
        return np.zeros(2), 0.0
    turned = joints.astype(np.float64) @ turn.T
    return (turned.min(axis=0) + turned.max(axis=0)) / 2, np.ptp(turned, axis=0).max()


def _warp(
    image: Shaped[np.ndarray, "h w *c"], crop_to_image: Float[np.ndarray, "3 3"], size: int
) -> UInt8[np.ndarray, "s s *c"]:
    shrink = 2 * math.sqrt(abs(np.linalg.det(crop_to_image[:2, :2]))) / size
    finer = size * min(max(1, round(shrink)), _FINEST)
    index_to_crop = np.array([[2 / finer, 0, 1 / finer - 1], [0, 2 / finer, 1 / finer - 1], [0, 0, 1]])
    index_to_index = crop_to_image @ index_to_crop
    index_to_index[:2, 2] -= 0.5
    warped = cv2.warpAffine(image, index_to_index[:2], (finer, finer), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return warped if finer == size else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def _planar_annotation(sample: HandSample, to_image: Float[np.ndarray, "3 3"], size: int) -> dict[str, Any]:
    to_crop = np.linalg.inv(to_image)
    joints = sample.joints_2d_px @ to_crop[:2, :2].T + to_crop[:2, 2]
    mask = np.zeros((size, size)) if sample.mask is None else _warp(sample.mask, to_image, size) / 255
    return {
        "joints_2d": _tensor(joints),
        "joints_2d_valid": _joints_valid(sample.joints_2d_valid),
        "mask": _tensor(mask),
        "mask_valid": torch.tensor([sample.mask is not None]),
    }


def _spatial_annotation(sample: HandSample, turn: Float[np.ndarray, "3 3"]) -> dict[str, Any]:
    annotated = sample.joints_3d is not None
    valid = _joints_valid(sample.joints_3d_valid) & annotated
    rooted = bool(valid[0, ROOT] and valid.sum() > 1)  # a root alone says nothing relative to itself
    joints, vertices = np.zeros((JOINT_COUNT, 3)), np.zeros((_MANO_VERTEX_COUNT, 3))
    if sample.joints_3d is not None:
        joints = sample.joints_3d @ turn.T
        if rooted and sample.vertices is not None:
            vertices = (sample.vertices - sample.joints_3d[ROOT]) @ turn.T
    return {
        "joints_camera": _tensor(joints),
        "joints_camera_valid": valid,
        "joints_3d": _tensor(joints - joints[ROOT] if rooted else np.zeros_like(joints)),
        "joints_3d_valid": valid & rooted,
        "vertices": _tensor(vertices),
        "vertices_valid": torch.tensor([rooted and sample.vertices is not None]),
    }


def _hand_model_annotation(sample: HandSample, turn: Float[np.ndarray, "3 3"]) -> dict[str, Any]:
    orient, pose, betas = sample.global_orient, sample.hand_pose, sample.betas
    if orient is not None:
        orient = (Rotation.from_matrix(turn) * Rotation.from_rotvec(orient)).as_rotvec()
    if sample.is_left:
        orient = None if orient is None else orient * _MIRROR_ROTATION
        pose = None if pose is None else (pose.reshape(15, 3) * _MIRROR_ROTATION).reshape(45)
    return {
        "global_orient": _tensor(np.zeros(3) if orient is None else orient),
        "global_orient_valid": torch.tensor([orient is not None]),
        "hand_pose": _tensor(np.zeros(45) if pose is None else pose),
        "hand_pose_valid": torch.tensor([pose is not None]),
        "betas": _tensor(np.zeros(10) if betas is None else betas),
        "betas_valid": torch.tensor([betas is not None]),
    }


def _rotation_matrix(angle: float) -> Float[np.ndarray, "3 3"]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _joints_valid(valid: Bool[np.ndarray, "21"] | None) -> Bool[Tensor, "1 21"]:
    return torch.ones(1, JOINT_COUNT, dtype=torch.bool) if valid is None else torch.from_numpy(valid)[None]


def _tensor(array: Shaped[np.ndarray, "..."]) -> Float[Tensor, "1 ..."]:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
