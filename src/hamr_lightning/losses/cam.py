"""The camera's loss, L_cam of the paper's Eq. 8."""

from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hamr_lightning.losses.base import Loss
from hamr_lightning.projection import fit_camera
from hamr_lightning.registry import register
from hamr_lightning.types import HandBatch, HandPrediction


@final
@register("loss", "cam")
class CameraLoss(Loss):
    """Squared distance between the estimated camera (s, tx, ty) and the one fitted to the annotated joints.

    The fitted camera is the paper's "ground-truth" one (section 3.1, :func:`~hamr_lightning.projection.fit_camera`), of
    the joints that are valid in 3D and in 2D. The sum over the three numbers as they are, not normalised: s is in crop
    units per metre and near 10, tx and ty are in metres, so that s makes up nearly all of it.
    """

    requires: ClassVar[tuple[str, ...]] = ("joints_3d", "joints_2d")

    def valid(self, batch: HandBatch) -> Bool[Tensor, "b"]:
        """Tell which samples have a bone to fit a camera to."""
        if batch.joints_3d is None or batch.joints_2d is None:
            return batch.has(*self.requires)
        return _fitted_camera(batch).isfinite().all(dim=1)

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's squared distance."""
        target = _fitted_camera(batch)
        difference = torch.where(target.isfinite(), prediction.camera - target, 0)
        return difference.square().sum(dim=1)


def _fitted_camera(batch: HandBatch) -> Float[Tensor, "b 3"]:
    assert batch.joints_3d is not None
    assert batch.joints_2d is not None
    valid = batch.validity("joints_3d") & batch.validity("joints_2d")
    return fit_camera(batch.joints_3d, batch.joints_2d, valid)
