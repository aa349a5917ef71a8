"""The 2D joints' loss, L_2D of the paper's Eq. 8."""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from hamr_lightning.losses.base import Loss, mean_over_joints
from hamr_lightning.registry import register
from hamr_lightning.types import HandBatch, HandPrediction


@final
@register("loss", "joints_2d")
class Joints2DLoss(Loss):
    """Squared distance between projected (Eqs. 4 and 5) and annotated joints, in crop units squared.

    Normalised by the number of valid joints; the crop is 2 units wide.
    """

    requires: ClassVar[tuple[str, ...]] = ("joints_2d",)

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's mean over its valid joints."""
        assert batch.joints_2d is not None
        squared = (prediction.joints_2d - batch.joints_2d).square().sum(dim=-1)
        return mean_over_joints(squared, batch.validity("joints_2d"))
