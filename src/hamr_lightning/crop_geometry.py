"""Where a batch's crops lie in their source images, and what of a crop the source image shows."""

import torch
from jaxtyping import Float
from torch import Tensor

from hamr_lightning.types import HandBatch


def to_source_pixels(points: Float[Tensor, "b n 2"], batch: HandBatch) -> Float[Tensor, "b n 2"]:
    """Return points of a batch's crops, in crop units, as pixels of the source images; left hands are mirrored back.

    Raises:
        ValueError: If the batch does not say where its crops lie.
    """
    if batch.crop_to_image is None:
        raise ValueError("HandBatch.crop_to_image is None: without it, pixels of the source image are not known")
    if batch.mirrored is not None:
        mirrored = points * points.new_tensor([-1, 1])
        points = torch.where(batch.mirrored[:, None, None], mirrored, points)
    return points @ batch.crop_to_image[:, :, :2].mT + batch.crop_to_image[:, None, :, 2]


def shown_by_source(batch: HandBatch, size: int) -> Float[Tensor, "b {size} {size}"]:
    """Return 1 for the pixels of the crop whose centres lie in the source image and 0 for those beyond it.

    Beyond the source image a crop is black, and nobody knows where the hand is: a mask says nothing there. All pixels
    are 1 for a batch that does not say where its crops lie, or how large its source images are.

    Args:
        batch: The crops.
        size: How many pixels a crop's side is divided into.
    """
    shown = batch.image.new_ones(len(batch), size, size)
    if batch.crop_to_image is None or batch.image_size_px is None:
        return shown
    centres = (2 * torch.arange(size, device=shown.device) + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = to_source_pixels(torch.stack([x, y], dim=-1).flatten(0, 1).expand(len(batch), -1, -1), batch)
    inside = ((pixels >= 0) & (pixels <= batch.image_size_px[:, None])).all(dim=-1)
    return inside.unflatten(1, (size, size)).to(shown)
