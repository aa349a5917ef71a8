"""The geometric constraints on fingers, L_geo of the paper's Eq. 8."""

from typing import ClassVar, Final, final

from jaxtyping import Float
from torch import Tensor
from torch.linalg import cross, vecdot
from torch.nn.functional import normalize

from hamr_lightning.losses.base import Loss
from hamr_lightning.registry import register
from hamr_lightning.skeleton import FINGERS
from hamr_lightning.types import HandBatch, HandPrediction

SHORTEST_BONE: Final = 1e-3
"""Metres. A shorter bone is divided by this instead of its length, which bounds the gradient where it vanishes."""


@final
@register("loss", "geo")
class GeometricLoss(Loss):
    """How far the predicted fingers, the thumb excepted, are from bending in one plane and in one direction.

    With a finger's three bones u, v, w as unit vectors, Eq. 6 gives the penalty |(u x v) . w| and Eq. 7 the penalty
    max(0, -(u x v) . (v x w)), each in [0, 1]; their sum is averaged over the four fingers. A finger's length and a
    straight finger cost nothing. It needs no annotation.
    """

    _fingers: ClassVar = [list(FINGERS[name]) for name in ("index", "middle", "ring", "pinky")]

    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's mean over the four fingers, in [0, 2]."""
        bones = normalize(prediction.joints_3d[:, self._fingers].diff(dim=2), dim=-1, eps=SHORTEST_BONE)
        u, v, w = bones.unbind(dim=2)
        u_v = cross(u, v)
        out_of_plane = vecdot(u_v, w).abs()
        turned_back = -vecdot(u_v, cross(v, w))
        return (out_of_plane + turned_back.relu()).mean(dim=1)
