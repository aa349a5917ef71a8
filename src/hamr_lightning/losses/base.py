"""The abstract loss, which every loss plugin implements."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
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

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{type(self).__name__}: weight must be finite and at least 0, got {weight}")
        self.weight = float(weight)

    def forward(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's loss, neither reduced nor weighted; exactly 0 for a sample that lacks what it needs."""
        valid = batch.has(*self.requires)
        zeros = torch.zeros(len(batch), device=valid.device)
        if any(getattr(batch, name) is None for name in self.requires):
            return zeros
        return torch.where(valid, self.per_sample(prediction, batch), zeros)

    @abstractmethod
    def per_sample(self, prediction: HandPrediction, batch: HandBatch) -> Float[Tensor, "b"]:
        """Return each sample's loss. Called only when no required field is None.

        Its gradient must be finite for every sample, one without valid annotation included.
        """
