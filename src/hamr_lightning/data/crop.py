"""From a sample to a crop around the hand: augmented, left hands mirrored, 3D made relative to the root."""

import math
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from scipy.spatial.transform import Rotation

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandSample
from hamr_lightning.data.batching import LABELS, CroppedHand, join
from hamr_lightning.skeleton import JOINT_COUNT, ROOT
from hamr_lightning.types import HandBatch

_FINEST: Final = 16  # bounds the memory that a wrong key point, far outside, can ask for
_MIRROR_ROTATION: Final = np.array([1.0, -1.0, -1.0])
_ALL_VALID: Final = np.ones(JOINT_COUNT, bool)
_NO_VERTICES: Final = np.zeros((778, 3), np.float32)


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
        return join([self.cut(sample, generator)])

    def cut(self, sample: HandSample, generator: np.random.Generator) -> CroppedHand:
        """Crop a sample, its colours drawn but not yet changed.

        Raises:
            ValueError: As a call.
        """
        scale, rotation = self.augmentation.draw_geometry(generator)
        square = _square_around(sample, rotation, self.margin / scale)
        pixels = _warp(sample, square, self.size)
        if self.augmentation.transforms:
            pixels[..., :3] = self.augmentation.transform(pixels[..., :3], generator)
        labels = np.zeros((), LABELS)
        _label_plane(labels, sample, square)
        vertices = _label_space(labels, sample, square)
        _label_hand_model(labels, sample, rotation)
        return CroppedHand(pixels, vertices, labels, self.augmentation.draw_colours(generator), sample.source)


@dataclass(frozen=True)
class _Square:
    """What is cut: turned pixel coordinates are ``turn`` applied to pixels, of which this is an upright square."""

    centre: Float[np.ndarray, "2"]
    half_side: float
    turn: Float[np.ndarray, "2 2"]
    mirror: float
    """-1 for left hands, whose crops are mirrored; else 1."""

    @property
    def to_image(self) -> Float[np.ndarray, "2 3"]:
        """The affine map from crop units, of the unmirrored crop, to pixels."""
        return np.column_stack([self.half_side * self.turn.T, self.turn.T @ self.centre])


def _square_around(sample: HandSample, rotation: float, margin: float) -> _Square:
    cosine, sine = math.cos(rotation), math.sin(rotation)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    centre, extent = _centre_and_extent(sample, turn)
    if not (math.isfinite(extent) and extent >= 1):
        raise ValueError(
            f"{sample.source}: no hand to crop, its {'valid 2D joints' if sample.box_px is None else 'box'} span "
            "less than 1 pixel; mend or leave out the sample"
        )
    return _Square(centre, margin * extent / 2, turn, -1.0 if sample.is_left else 1.0)


def _centre_and_extent(sample: HandSample, turn: Float[np.ndarray, "2 2"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Return the turned hand's middle, and its longer side."""
    if sample.box_px is not None:
        corners = sample.box_px.reshape(2, 2).astype(np.float64)
        return turn @ corners.mean(axis=0), float(np.ptp(corners, axis=0).max())
    valid = sample.joints_2d_valid
    joints = sample.joints_2d_px if valid is None else sample.joints_2d_px[valid]
    if not len(joints):
        return np.zeros(2), 0.0
    turned = joints.astype(np.float64) @ turn.T
    least, most = turned.min(axis=0), turned.max(axis=0)
    return (least + most) / 2, float((most - least).max())


def _warp(sample: HandSample, square: _Square, size: int) -> UInt8[np.ndarray, "s s 4"]:
    """Return red, green, blue and the mask: OpenCV warps four channels together faster than three."""
    finer = size * min(max(1, round(2 * square.half_side / size)), _FINEST)
    to_image = square.to_image
    left, top, pixels = _pixels_around(sample, to_image)
    step = to_image[:, :2] * [square.mirror, 1.0]
    start = step.sum(axis=1) * (1 / finer - 1) + to_image[:, 2] - [left + 0.5, top + 0.5]
    index_to_index = np.column_stack([step * (2 / finer), start])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(pixels, index_to_index, (finer, finer), flags=flags)
    return warped if finer == size else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def _pixels_around(
    sample: HandSample, to_image: Float[np.ndarray, "2 3"]
) -> tuple[int, int, UInt8[np.ndarray, "h w 4"]]:
    """Return the image with its mask as fourth channel, where it is under the square and a pixel around that."""
    reach = np.abs(to_image[:, :2]).sum(axis=1)
    height, width = sample.image.shape[:2]
    left, right = _span(to_image[0, 2], reach[0], width)
    top, bottom = _span(to_image[1, 2], reach[1], height)
    around = np.s_[top:bottom, left:right]
    pixels = cv2.cvtColor(sample.image[around], cv2.COLOR_RGB2RGBA)
    mask = np.zeros(pixels.shape[:2], np.uint8) if sample.mask is None else sample.mask[around]
    return left, top, cv2.insertChannel(mask, pixels, 3)


def _span(centre: float, reach: float, length: int) -> tuple[int, int]:
    """Return the first pixel and the one after the last; at least one, also where all is outside."""
    first = min(max(math.floor(centre - reach) - 1, 0), length - 1)
    return first, max(min(math.ceil(centre + reach) + 1, length), first + 1)


def _label_plane(labels: Shaped[np.ndarray, ""], sample: HandSample, square: _Square) -> None:
    turned = sample.joints_2d_px @ square.turn.T
    labels["joints_2d"] = (turned - square.centre) * [square.mirror / square.half_side, 1 / square.half_side]
    labels["joints_2d_valid"] = True if sample.joints_2d_valid is None else sample.joints_2d_valid
    labels["mask_valid"] = sample.mask is not None
    labels["mirrored"] = sample.is_left
    labels["crop_to_image"] = square.to_image
    labels["image_size_px"] = sample.image.shape[1::-1]


def _label_space(labels: Shaped[np.ndarray, ""], sample: HandSample, square: _Square) -> Float32[np.ndarray, "v 3"]:
    """Label the 3D joints; return the vertices."""
    if sample.joints_3d is None:
        return _NO_VERTICES
    turn = np.eye(3)
    turn[:2, :2] = square.turn
    turn[0] *= square.mirror
    valid = _ALL_VALID if sample.joints_3d_valid is None else sample.joints_3d_valid
    labels["joints_camera"] = joints = sample.joints_3d @ turn.T
    labels["joints_camera_valid"] = valid
    if not valid[ROOT] or valid.sum() < 2:  # a root alone says nothing relative to itself
        return _NO_VERTICES
    labels["joints_3d"] = joints - joints[ROOT]
    labels["joints_3d_valid"] = valid
    if sample.vertices is None:
        return _NO_VERTICES
    labels["vertices_valid"] = True
    return ((sample.vertices - sample.joints_3d[ROOT]) @ turn.T).astype(np.float32)


def _label_hand_model(labels: Shaped[np.ndarray, ""], sample: HandSample, rotation: float) -> None:
    mirror = _MIRROR_ROTATION if sample.is_left else 1.0
    if sample.global_orient is not None:
        turn = Rotation.from_rotvec([0.0, 0.0, rotation])
        labels["global_orient"] = (turn * Rotation.from_rotvec(sample.global_orient)).as_rotvec() * mirror
        labels["global_orient_valid"] = True
    if sample.hand_pose is not None:
        labels["hand_pose"] = (sample.hand_pose.reshape(15, 3) * mirror).reshape(45)
        labels["hand_pose_valid"] = True
    if sample.betas is not None:
        labels["betas"] = sample.betas
        labels["betas_valid"] = True
