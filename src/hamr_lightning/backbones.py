"""Backbones: from the image to heat-maps and features."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Turns an image into heat-maps and features at a quarter of its resolution.

    Attributes:
        feature_channels: Channels of the features.
        heatmap_channels: Heat-maps of each stack, at least 21.
    """

    feature_channels: int
    heatmap_channels: int

    @abstractmethod
    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b stacks maps hm_h hm_w"], Float[Tensor, "b c hm_h hm_w"]]:
        """Return every stack's heat-maps (the first 21 are the joints') and the features.

        Args:
            image: RGB in [0, 1].
        """
