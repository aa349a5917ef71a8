"""Regressors: from features to hand parameters, iteratively."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hamr_lightning.backbones import convolution
from hamr_lightning.registry import register

MEAN_CAMERA_SCALE: Final = 10.0
"""Crop units per metre: hands as they come, bent and seen at an angle, are some 0.13 m across in the image plane and
fill two thirds of a crop, which is 2 units wide."""


class IterativeRegressor(nn.Module, ABC):
    """Estimates the camera and the hand model's parameters, as one vector, in several iterations.

    The vector is camera (3), then the decoder's global_orient, hand_pose and betas.
    Args of every implementation, beside its own: ``feature_channels`` (features and one stack's heat-maps together)
    and ``parameter_count``; the recipe fills both in.
    """

    @abstractmethod
    def forward(self, features: Float[Tensor, "b c hm_h hm_w"]) -> Float[Tensor, "b iterations n"]:
        """Return every iteration's estimate, the last one being the result."""


@final
@register("regressor", "iterative")
class HamrRegressor(IterativeRegressor):
    """The iterative regression module of the paper's section 3.2 and Figure 3.

    3 x 3 convolutions of stride 2, as wide as the input and the last three twice and four times as wide and
    ``feature_size``, make one vector of the features: six take a map of 64 x 64 to one pixel, larger maps are averaged
    at the end. From that vector and the last estimate, fully connected layers compute a correction to the estimate, the
    same layers in every iteration. The start values are learned, from a camera of ``MEAN_CAMERA_SCALE`` and 0
    otherwise.

    Where smaller maps arrive at one pixel before the last convolution, batch normalisation has only the batch to
    normalise by: training then needs more than one sample, and a small batch trains otherwise than it predicts. Take
    fewer convolutions for those, five for 32 x 32.

    Args:
        feature_channels: Channels of the input.
        parameter_count: Numbers to estimate, the camera's 3 among them.
        convolutions: How many convolutions, at least 3.
        feature_size: Width of the vector that the convolutions make.
        hidden: Width of the two fully connected layers.
        iterations: How often the estimate is corrected.
        dropout: Probability of the dropout after each of the two fully connected layers.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        feature_channels: int,
        parameter_count: int,
        convolutions: int = 6,
        feature_size: int = 2048,
        hidden: int = 2048,
        iterations: int = 3,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        for name, value, bound in (
            ("feature_channels", feature_channels, 1),
            ("parameter_count", parameter_count, 3),
            ("convolutions", convolutions, 3),
            ("feature_size", feature_size, 1),
            ("hidden", hidden, 1),
            ("iterations", iterations, 1),
        ):
            if value < bound:
                raise ValueError(f"HamrRegressor: {name} must be at least {bound}, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"HamrRegressor: dropout must be at least 0 and below 1, got {dropout}")
        self.iterations = iterations
        widths = [feature_channels] * (convolutions - 2) + [2 * feature_channels, 4 * feature_channels]
        self.encoder = nn.Sequential(
            *(convolution(inputs, outputs, stride=2) for inputs, outputs in pairwise(widths)),
            # Without batch normalisation, as in the authors' code: over single pixels it would fail on a batch of one.
            nn.Conv2d(widths[-1], feature_size, 3, stride=2, padding=1),
        )
        correction = nn.Linear(hidden, parameter_count)
        # The first estimates are then the start values, which a hand model takes, not numbers at random.
        nn.init.xavier_uniform_(correction.weight, gain=0.01)
        nn.init.zeros_(correction.bias)
        self.corrector = nn.Sequential(
            nn.Linear(feature_size + parameter_count, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            correction,
        )
        self.start = nn.Parameter(torch.zeros(parameter_count))
        with torch.no_grad():
            self.start[0] = MEAN_CAMERA_SCALE

    def forward(self, features: Float[Tensor, "b c hm_h hm_w"]) -> Float[Tensor, "b iterations n"]:
        """Return every iteration's estimate, float32 under autocast too: corrections are small differences."""
        vector = self.encoder(features).mean(dim=(2, 3))
        with torch.autocast(vector.device.type, enabled=False):
            vector = vector.float()
            estimate = self.start.expand(len(vector), -1)
            estimates = []
            for _ in range(self.iterations):
                estimate = estimate + self.corrector(torch.cat([vector, estimate], dim=1))
                estimates.append(estimate)
        return torch.stack(estimates, dim=1)
