"""The silhouette's loss, L_seg of the paper's Eq. 8."""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hamr_lightning.crop_geometry import shown_by_source
from hamr_lightning.errors import UserError
from hamr_lightning.losses.base import Loss
from hamr_lightning.registry import register
from hamr_lightning.types import HandBatch, HandPrediction


@final
@register("loss", "seg")
class SegmentationLoss(Loss):
    """Absolute difference between the rendered silhouette and the annotated mask, as shares of a pixel's area.

    The mask is averaged over the area of each of the renderer's pixels. Normalised by the number of those pixels that
    the source image shows: of a hand that is cut off by its border, the rest is free.
    """

    requires: ClassVar[tuple[str, ...]] = ("mask",)
    needs_silhouette: ClassVar[bool] = True

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's mean over pixels, in [0, 1].

        Raises:
            ValueError: If the prediction has no silhouette, or :func:`average_to` refuses the mask.
        """
        if prediction.silhouette is None:
            raise ValueError("SegmentationLoss: the prediction has no silhouette; give the model a renderer")
        assert batch.mask is not None
        size = prediction.silhouette.shape[-1]
        shown = shown_by_source(batch, size)
        differences = shown * (prediction.silhouette - average_to(batch.mask, size)).abs()
        return differences.sum(dim=(1, 2)) / shown.sum(dim=(1, 2)).clamp(min=1)


def average_to(mask: Float[Tensor, "b h w"], size: int) -> Float[Tensor, "b {size} {size}"]:
    """Average masks over the area of larger pixels.

    Raises:
        UserError: If a side is not a multiple of ``size``.
    """
    height, width = mask.shape[-2:]
    if height % size or width % size:
        raise UserError(
            f"the mask's sides must be multiples of the renderer's size {size}, got {height} x {width}; "
            "choose another renderer size or crop size"
        )
    return avg_pool2d(mask[:, None], (height // size, width // size))[:, 0]
