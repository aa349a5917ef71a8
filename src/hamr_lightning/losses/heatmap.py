"""The heat-maps' loss, L_ht of the paper's Eq. 8, an intermediate supervision."""

import math
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from hamr_lightning.losses.base import Loss, mean_over_joints
from hamr_lightning.registry import register
from hamr_lightning.skeleton import JOINT_COUNT
from hamr_lightning.types import HandBatch, HandPrediction


@final
@register("loss", "heatmap")
class HeatmapLoss(Loss):
    """Squared difference between the first 21 heat-maps and Gaussians at the annotated joints (sections 3.1, 4.1).

    Normalised by the number of pixels and of valid joints, and summed over stacks. A joint outside the crop counts
    with what of its Gaussian lies inside, which soon is nothing.

    Args:
        weight: The term's lambda.
        variance: The Gaussians' variance in heat-map pixels squared, positive.
    """

    requires: ClassVar[tuple[str, ...]] = ("joints_2d",)

    def __init__(self, weight: float = 1.0, variance: float = 2.5) -> None:
        super().__init__(weight)
        if not (math.isfinite(variance) and variance > 0):
            raise ValueError(f"HeatmapLoss: variance must be finite and above 0, got {variance}")
        self.variance = variance

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's mean over pixels and its valid joints, summed over stacks."""
        assert batch.joints_2d is not None
        predicted = prediction.heatmaps[:, :, :JOINT_COUNT]
        height, width = predicted.shape[-2:]
        target = gaussian_heatmaps(batch.joints_2d, height, width, self.variance)
        squared = (predicted - target[:, None]).square().mean(dim=(3, 4)).sum(dim=1)
        return mean_over_joints(squared, batch.validity("joints_2d"))


def gaussian_heatmaps(
    joints_2d: Float[Tensor, "b j 2"], height: int, width: int, variance: float
) -> Float[Tensor, "b j {height} {width}"]:
    """Draw a Gaussian of peak 1 around each joint, at its exact place between the pixels' centres.

    Args:
        joints_2d: Crop units.
        height: Rows of a heat-map.
        width: Columns of a heat-map.
        variance: In heat-map pixels squared.
    """
    columns = _gaussians(joints_2d[..., 0], width, variance)
    rows = _gaussians(joints_2d[..., 1], height, variance)
    return rows[..., :, None] * columns[..., None, :]


def _gaussians(position: Float[Tensor, "b j"], size: int, variance: float) -> Float[Tensor, "b j {size}"]:
    position_px = (position + 1) / 2 * size
    centres_px = torch.arange(size, device=position.device) + 0.5
    return torch.exp(-(centres_px - position_px[..., None]).square() / (2 * variance))
