"""The colours of a whole batch, changed where the model runs: the same as :mod:`hamr_lightning.data.colours`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from hamr_lightning.data.batching import CroppedHand, allocate, join_labels
from hamr_lightning.types import HandBatch, _TensorRecord


@dataclass(frozen=True)
class UncolouredBatch(_TensorRecord):
    """A batch of crops on its way to the device, a quarter of the size that it has there."""

    pixels: UInt8[Tensor, "b s s 4"]
    """Red, green, blue, and the mask."""
    factors: Float32[Tensor, "b 5"]
    """Of each sample: brightness, contrast, saturation, hue and noise, as in :class:`Colours`."""
    seed: int
    """Of the whole batch's noise; a number, so that no device must be asked for it."""
    annotation: HandBatch
    """All else; its images have no pixels."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pixels)

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was wrong with each sample that could not be read and is therefore not in the batch."""
        return self.annotation.skipped


def require_kornia() -> None:
    """Import kornia.

    Raises:
        ValueError: If it is missing.
    """
    try:
        import kornia.enhance  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"data.augment: gpu needs kornia ({error}); pip install kornia, or set data.augment to cpu"
        ) from error


def join_uncoloured(crops: Sequence[CroppedHand]) -> UncolouredBatch:
    """Make a batch of crops that only lacks its colours."""
    pixels = allocate(len(crops), *crops[0].pixels.shape, dtype=torch.uint8)
    np.stack([crop.pixels for crop in crops], out=pixels.numpy())
    seeds = np.random.SeedSequence([crop.colours.seed for crop in crops])
    return UncolouredBatch(
        pixels,
        torch.tensor([crop.colours[:5] for crop in crops]),
        int(seeds.generate_state(1, np.uint64)[0]),
        HandBatch(torch.empty(len(crops), 3, 0, 0), **join_labels(crops)),
    )


def colour(batch: UncolouredBatch) -> HandBatch:
    """Change the colours and add the noise, on the device that the batch is on.

    The noise is the same whenever the same samples meet in a batch on the same device.
    """
    from kornia import enhance

    values = batch.pixels.permute(0, 3, 1, 2).contiguous() / 255
    brightness, contrast, saturation, hue, deviation = batch.factors.unbind(dim=1)
    image = enhance.adjust_brightness_accumulative(values[:, :3], brightness)
    image = enhance.adjust_contrast_with_mean_subtraction(image, contrast)
    image = enhance.adjust_saturation_with_gray_subtraction(image, saturation)
    image = enhance.adjust_hue(image, 2 * math.pi * hue)
    generator = torch.Generator(image.device).manual_seed(batch.seed)
    noise = torch.randn(image.shape, generator=generator, device=image.device)
    image = torch.addcmul(image, noise, deviation[:, None, None, None]).clamp(0, 1)
    return replace(batch.annotation, image=image, mask=values[:, 3])
