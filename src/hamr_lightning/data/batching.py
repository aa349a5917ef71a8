"""Crops on their way into a batch: NumPy until all of a batch are there, as a tensor for every field costs more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor
from torch.utils.data import get_worker_info

from hamr_lightning.data.colours import Colours, recolour
from hamr_lightning.skeleton import JOINT_COUNT
from hamr_lightning.types import HandBatch

_SHAPES: Final = {
    "joints_2d": (JOINT_COUNT, 2),
    "joints_3d": (JOINT_COUNT, 3),
    "joints_camera": (JOINT_COUNT, 3),
    "global_orient": (3,),
    "hand_pose": (45,),
    "betas": (10,),
    "crop_to_image": (2, 3),
    "image_size_px": (2,),
}
_VALIDITIES: Final = {
    "joints_2d_valid": (JOINT_COUNT,),
    "joints_3d_valid": (JOINT_COUNT,),
    "joints_camera_valid": (JOINT_COUNT,),
    "mask_valid": (),
    "vertices_valid": (),
    "global_orient_valid": (),
    "hand_pose_valid": (),
    "betas_valid": (),
    "mirrored": (),
}
LABELS: Final = np.dtype(
    [(name, np.float32, shape) for name, shape in _SHAPES.items()]
    + [(name, np.bool_, shape) for name, shape in _VALIDITIES.items()]
)
"""All that :class:`HandBatch` says of a sample beside pixels and vertices; zeros say that nothing is annotated."""


@dataclass(frozen=True)
class CroppedHand:
    """A sample's crop, its colours not changed yet."""

    pixels: UInt8[np.ndarray, "s s 4"]
    """Red, green, blue, and the mask, which is 0 without annotation."""
    vertices: Float32[np.ndarray, "v 3"]
    labels: Shaped[np.ndarray, ""]
    """Of type :data:`LABELS`."""
    colours: Colours
    source: str


def join(crops: Sequence[CroppedHand]) -> HandBatch:
    """Change the crops' colours, and make a batch of them that has every field."""
    size = len(crops[0].pixels)
    images, masks = allocate(len(crops), 3, size, size), allocate(len(crops), size, size)
    for crop, image, mask in zip(crops, images.numpy(), masks.numpy(), strict=True):
        recolour(crop.pixels, crop.colours, image, mask)
    return HandBatch(images, mask=masks, **join_labels(crops))


def join_labels(crops: Sequence[CroppedHand]) -> dict[str, Any]:
    """Return the fields of a batch that do not hold pixels."""
    labels = np.stack([crop.labels for crop in crops])
    tensors = {name: torch.from_numpy(labels[name].copy()) for name in LABELS.names or ()}
    tensors["vertices"] = torch.from_numpy(np.stack([crop.vertices for crop in crops]))
    return tensors | {"sources": tuple(crop.source for crop in crops)}


def allocate(*shape: int, dtype: torch.dtype = torch.float32) -> Shaped[Tensor, "*shape"]:
    """Allocate an array where the training process can read it, if this is a worker: its queue would copy it there."""
    empty = torch.empty(0, dtype=dtype)
    if get_worker_info() is not None:
        bytes_needed = math.prod(shape) * dtype.itemsize
        empty = empty.set_(torch.UntypedStorage._new_shared(bytes_needed))  # as torch's own collation does
    return empty.resize_(shape)
