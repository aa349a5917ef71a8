"""Regressors: from features to hand parameters, iteratively."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class IterativeRegressor(nn.Module, ABC):
    """Estimates the camera and the hand model's parameters, as one vector, in several iterations.

    The vector is camera (3), then the decoder's global_orient, hand_pose and betas.
    Args of every implementation, beside its own: ``feature_channels`` (features and one stack's heat-maps together)
    and ``parameter_count``; the recipe fills both in.
    """

    @abstractmethod
    def forward(self, features: Float[Tensor, "b c hm_h hm_w"]) -> Float[Tensor, "b iterations n"]:
        """Return every iteration's estimate, the last one being the result."""
