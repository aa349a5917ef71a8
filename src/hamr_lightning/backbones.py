"""Backbones: from the image to heat-maps and features."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.utils.checkpoint import checkpoint

from hamr_lightning.errors import UserError
from hamr_lightning.registry import register
from hamr_lightning.skeleton import JOINT_COUNT


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


@final
@register("backbone", "hourglass")
class HourglassBackbone(Backbone):
    """The stacked hourglass of the paper's sections 3.3 and 4.1: single 3 x 3 convolutions, average pooling.

    A stem takes the image to a quarter of its resolution. Each hourglass halves it ``depth`` times, a 3 x 3 convolution
    a level, and adds the levels up again; two 3 x 3 convolutions and a 1 x 1 convolution make its heat-maps; features
    and heat-maps, each by a 1 x 1 convolution, are added to what the next hourglass sees. Where the paper is silent,
    the depth, the widths and the features, which are the stem's output, are those of the authors' released code.

    This and the regressor's convolutions have 105,261,632 parameters, the same part of the authors' code 105,270,208;
    with the paper's fully connected layers the network has 113,744,492 and takes 61 GFLOP an image. The difference:
    here a batch normalisation follows every 3 x 3 convolution, as the paper says, where the authors' code leaves some
    out, and these convolutions have no bias, which it would cancel. It stands before the ReLU (the authors' behind
    it), directly after the convolution, into which it can then be folded for inference.

    Args:
        stacks: Hourglasses in a row.
        depth: Times that an hourglass halves the resolution.
        channels: Width of the stem's output and of an hourglass's first level, a multiple of 4: the stem's first
            layers have a quarter and a half of it.
        growth: Channels added at each further level.
        heatmaps: Heat-maps of each stack, at least 21; those beyond 21 are features of no fixed meaning.
        activation_checkpointing: Whether training keeps only what goes into the stem and into each hourglass, and
            computes what is inside them once more for the gradient: the same result in less memory and more time.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        stacks: int = 2,
        depth: int = 4,
        channels: int = 256,
        growth: int = 128,
        heatmaps: int = 64,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_at_least(1, stacks=stacks, depth=depth, channels=channels)
        _check_at_least(0, growth=growth)
        _check_at_least(JOINT_COUNT, heatmaps=heatmaps)
        if channels % 4:
            raise ValueError(f"HourglassBackbone: channels must be a multiple of 4, got {channels}")
        self.feature_channels = channels
        self.heatmap_channels = heatmaps
        self._divisor = 4 * 2**depth
        self._run = _run_checkpointed if activation_checkpointing else _run
        self.stem = nn.Sequential(
            convolution(3, channels // 4, kernel_size=7, stride=2),
            convolution(channels // 4, channels // 2),
            nn.AvgPool2d(2),
            convolution(channels // 2, channels // 2),
            convolution(channels // 2, channels),
        )
        self.hourglasses = nn.ModuleList(
            nn.Sequential(
                _Hourglass(depth, channels, growth), convolution(channels, channels), convolution(channels, channels)
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(_head(channels, heatmaps) for _ in range(stacks))
        self.merge_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.merge_heatmaps = nn.ModuleList(nn.Conv2d(heatmaps, channels, 1) for _ in range(stacks - 1))

    def forward(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b stacks maps hm_h hm_w"], Float[Tensor, "b c hm_h hm_w"]]:
        """Return every stack's heat-maps and the stem's output.

        Args:
            image: RGB in [0, 1], sides divisible by ``4 * 2**depth`` (64 by default).

        Raises:
            UserError: If a side is not divisible so.
        """
        height, width = image.shape[-2:]
        if height % self._divisor or width % self._divisor:
            raise UserError(
                f"HourglassBackbone: the image's sides must be divisible by 4 * 2**depth = {self._divisor}, "
                f"got {height} x {width}; choose another crop size or depth"
            )
        features = x = self._run(self.stem, 2 * image - 1)
        heatmaps: list[Tensor] = []
        for stack, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads, strict=True)):
            stacked = self._run(hourglass, x)
            heatmaps.append(head(stacked))
            if stack < len(self.merge_features):
                x = x + self.merge_features[stack](stacked) + self.merge_heatmaps[stack](heatmaps[-1])
        return torch.stack(heatmaps, dim=1), features


def convolution(inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Make a convolution that keeps the resolution (over the stride), with batch normalisation and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _head(inputs: int, outputs: int) -> nn.Conv2d:
    head = nn.Conv2d(inputs, outputs, 1)
    # Targets are 0 almost everywhere, and so should the first heat-maps be.
    nn.init.normal_(head.weight, std=1e-3)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return head


def _run(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)


def _run_checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # a compiled backward pass leaves the averages alone
        return checkpoint(module, x, use_reentrant=False, preserve_rng_state=False)
    contexts = lambda: (nullcontext(), _RunningAveragesKept(module))  # noqa: E731
    return checkpoint(module, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


class _RunningAveragesKept:
    """Lets a second pass over a batch leave batch normalisation's running averages, which the first has updated.

    A backward pass that is repeated enters it again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
        self._kept: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self._kept = [dict(norm._buffers) for norm in self._norms]
        for norm in self._norms:
            norm._buffers.update({name: value.clone() for name, value in norm._buffers.items() if value is not None})

    def __exit__(self, *_: object) -> None:
        for norm, buffers in zip(self._norms, self._kept, strict=True):
            norm._buffers.update(buffers)


class _Hourglass(nn.Module):
    """One level of an hourglass, and by recursion those below it."""

    def __init__(self, depth: int, channels: int, growth: int) -> None:
        super().__init__()
        inner = channels + growth
        self.skip = convolution(channels, channels)
        self.lower = nn.Sequential(
            nn.AvgPool2d(2),
            convolution(channels, inner),
            _Hourglass(depth - 1, inner, growth) if depth > 1 else convolution(inner, inner),
            convolution(inner, channels),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.skip(x) + F.interpolate(self.lower(x), scale_factor=2, mode="nearest")


def _check_at_least(bound: int, **arguments: int) -> None:
    for name, value in arguments.items():
        if value < bound:
            raise ValueError(f"HourglassBackbone: {name} must be at least {bound}, got {value}")
