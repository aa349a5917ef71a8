"""The 3D joints' loss, L_3D of the paper's Eq. 8."""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from hamr_lightning.losses.base import Loss, mean_over_joints
from hamr_lightning.registry import register
from hamr_lightning.types import HandBatch, HandPrediction


@final
@register("loss", "joints_3d")
class Joints3DLoss(Loss):
    """Squared distance between predicted and annotated joints, both relative to the root, in metres squared.

    Normalised by the number of valid joints. The root, whose error is always 0, counts among them.
    """

    requires: ClassVar[tuple[str, ...]] = ("joints_3d",)

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's mean over its valid joints."""
        assert batch.joints_3d is not None
        squared = (prediction.joints_3d - batch.joints_3d).square().sum(dim=-1)
        return mean_over_joints(squared, batch.validity("joints_3d"))
