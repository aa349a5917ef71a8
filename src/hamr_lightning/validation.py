"""The figures of one validation set: each loss's mean, and the metrics that its annotation allows."""

import warnings
from collections.abc import Mapping
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from hamr_lightning.crop_geometry import shown_by_source
from hamr_lightning.losses.base import Loss
from hamr_lightning.metrics import PCKAUC, MeanIoU, MeanJointError, MeanOverValid
from hamr_lightning.types import HandBatch, HandPrediction


class ValidationSet(nn.Module):
    """Accumulates the figures of a validation set over its batches, and over all ranks.

    Args:
        losses: The model's, by the name that they are logged under.
    """

    def __init__(self, losses: Mapping[str, Loss]) -> None:
        super().__init__()
        self._losses = losses
        self._loss_means = cast(Mapping[str, Metric], nn.ModuleDict({name: MeanOverValid() for name in losses}))
        joint_metrics = {"auc_3d": PCKAUC(), "joint_error_mm": MeanJointError()}
        self._joint_metrics = cast(Mapping[str, Metric], nn.ModuleDict(joint_metrics))
        self._miou = MeanIoU()

    def update(self, prediction: HandPrediction, batch: HandBatch) -> None:
        """Take in a batch."""
        for name, loss in self._losses.items():
            self._loss_means[name].update(loss(prediction, batch), loss.valid(batch))
        if batch.joints_3d is not None:
            for metric in self._joint_metrics.values():
                metric.update(prediction.joints_3d, batch.joints_3d, batch.validity("joints_3d"))
        if batch.mask is not None and prediction.silhouette is not None:
            shown = shown_by_source(batch, prediction.silhouette.shape[-1])
            self._miou.update(shown * prediction.silhouette, batch.mask, batch.validity("mask"))

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """Return the mean of each loss that there was annotation for, not weighted."""
        return _known({**self._loss_means})

    def metrics(self) -> dict[str, Float[Tensor, ""]]:
        """Return ``auc_3d`` (20 to 50 mm), ``joint_error_mm`` and ``miou``, each if there was annotation."""
        return _known({**self._joint_metrics, "miou": self._miou})


def _known(metrics: Mapping[str, Metric]) -> dict[str, Float[Tensor, ""]]:
    with warnings.catch_warnings():
        # A rank that saw no annotation computes all the same: the others wait for it.
        warnings.filterwarnings("ignore", ".*was called before the ``update`` method", UserWarning)
        values = {name: metric.compute() for name, metric in metrics.items()}
    return {name: value for name, value in values.items() if not value.isnan()}
