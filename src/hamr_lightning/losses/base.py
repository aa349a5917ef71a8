"""The abstract loss, which every loss plugin implements."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hamr_lightning.types import HandBatch, HandPrediction


class Loss(nn.Module, ABC):
    """One term of the total loss (paper, Eq. 8).

    A plugin names the annotation it needs in ``requires`` and computes :meth:`per_sample`.

    Args:
        weight: The term's lambda, finite and not negative. It is applied by the module, not here.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    """Fields of :class:`HandBatch` without which a sample has no such loss."""

    needs_silhouette: ClassVar[bool] = False
    """Whether the prediction must hold a rendered silhouette."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{type(self).__name__}: weight must be finite and at least 0, got {weight}")
        self.weight = float(weight)

    def forward(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's loss, neither reduced nor weighted; exactly 0 for a sample that lacks what it needs.

        It is computed without autocast. (A prediction that is not finite gives NaN whatever the annotation.)
        """
        # Zeros that hang on the prediction: a batch without any annotation can still be differentiated, and a
        # gradient, if zero, reaches every parameter, as DistributedDataParallel demands.
        zeros = 0 * prediction.joints_3d.square().sum(dim=(1, 2))
        if any(getattr(batch, name) is None for name in self.requires):
            return zeros
        with torch.autocast(zeros.device.type, enabled=False):
            return torch.where(self.valid(batch), self.per_sample(prediction, batch), zeros)

    def valid(self, batch: HandBatch) -> Bool[Tensor, "b"]:
        """Tell which samples have what the loss needs. A plugin that needs more than ``requires`` says so here."""
        return batch.has(*self.requires)

    @abstractmethod
    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's loss. Called only when no required field is None.

        Its gradient must be finite for every sample, one without valid annotation included.
        """


def mean_over_joints(values: Float[Tensor, "b j"], valid: Bool[Tensor, "b j"]) -> Float[Tensor, "b"]:
    """Return each sample's mean over its valid joints, 0 where it has none."""
    return torch.where(valid, values, 0).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
