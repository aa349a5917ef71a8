"""Models made ready to predict fast."""

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hamr_lightning.module import HAMRModule


def for_inference(model: HAMRModule) -> HAMRModule:
    """Return a copy that predicts the same but for rounding, and faster.

    It is in evaluation mode, its weights are frozen, every batch normalisation that directly follows a convolution in
    an :class:`torch.nn.Sequential` is folded into it, and it renders no silhouette. It cannot be trained further; its
    ``compile()`` makes it faster still.

    Args:
        model: Stays as it is.
    """
    ready: HAMRModule = deepcopy(model, {id(model._trainer): None})
    ready.renderer = None
    for sequence in [module for module in ready.modules() if isinstance(module, nn.Sequential)]:
        _fold(sequence.eval())
    return ready.eval().requires_grad_(False)


def _fold(sequence: nn.Sequential) -> None:
    for place, (layer, follower) in enumerate(pairwise(sequence)):
        if isinstance(layer, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d):
            sequence[place], sequence[place + 1] = fuse_conv_bn_eval(layer, follower), nn.Identity()
