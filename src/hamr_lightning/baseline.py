"""The best constant prediction: what a model must beat to have learned anything from the image."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from hamr_lightning.crop_geometry import shown_by_source
from hamr_lightning.losses.seg import average_to
from hamr_lightning.metrics import PCKAUC, MeanIoU, MeanJointError, mask_iou
from hamr_lightning.types import HandBatch


@dataclass(frozen=True)
class Constant:
    """A prediction that is the same for every image; None of what the training data did not tell."""

    joints_3d: Float[Tensor, "21 3"] | None
    """Metres, relative to the root joint."""
    silhouette: Float[Tensor, "s s"] | None

    @classmethod
    def best(cls, training: Iterable[HandBatch], size: int) -> "Constant":
        """Find the best constant prediction for some training data.

        The joints are each joint's geometric median, of which no constant has a smaller mean error. The silhouette
        holds the pixels that are on the hand in more than a certain share of the masks, that share having the best
        mean IoU.

        Args:
            training: Batches to find the prediction from.
            size: Side of the silhouette in pixels, the renderer's.
        """
        joints, joints_valid, masks = [], [], []
        for batch in training:
            if batch.joints_3d is not None and batch.has("joints_3d").any():
                joints.append(batch.joints_3d)
                joints_valid.append(batch.validity("joints_3d"))
            if batch.mask is not None and batch.has("mask").any():
                masks.append(average_to(batch.mask[batch.validity("mask")], size))
        return cls(
            _geometric_median(torch.cat(joints), torch.cat(joints_valid)) if joints else None,
            _best_silhouette(torch.cat(masks)) if masks else None,
        )

    def figures(self, validation: Iterable[HandBatch]) -> dict[str, float]:
        """Return the prediction's figures on some validation data.

        Processes of a distributed run do not wait for each other here: each has the figures of its own batches.

        Returns:
            ``auc_3d`` and ``joint_error_mm``, and ``miou``, each only if training and validation data have what it
            takes.
        """
        auc_3d, joint_error, miou = metrics = PCKAUC(), MeanJointError(), MeanIoU()
        for metric in metrics:
            metric.distributed_available_fn = lambda: False
        known: dict[str, Metric] = {}
        for batch in validation:
            if self.joints_3d is not None and batch.joints_3d is not None and batch.has("joints_3d").any():
                arguments = self.joints_3d.expand_as(batch.joints_3d), batch.joints_3d, batch.validity("joints_3d")
                known |= {"auc_3d": auc_3d, "joint_error_mm": joint_error}
                auc_3d.update(*arguments)
                joint_error.update(*arguments)
            if self.silhouette is not None and batch.mask is not None and batch.has("mask").any():
                known["miou"] = miou
                shown = shown_by_source(batch, self.silhouette.shape[-1])
                miou.update(shown * self.silhouette, batch.mask, batch.validity("mask"))
        return {name: metric.compute().item() for name, metric in known.items()}


def _geometric_median(points: Float[Tensor, "n j 3"], valid: Bool[Tensor, "n j"]) -> Float[Tensor, "j 3"]:
    """Return each joint's point of least mean distance to its valid points, by Weiszfeld's iteration."""
    weights = valid.float()
    for _ in range(100):
        median = (weights[..., None] * points).sum(dim=0) / weights.sum(dim=0).clamp(min=1e-6)[:, None]
        weights = valid / torch.linalg.vector_norm(points - median, dim=-1).clamp(min=1e-6)
    return median


def _best_silhouette(masks: Float[Tensor, "n s s"]) -> Float[Tensor, "s s"]:
    share = (masks > 0.5).float().mean(dim=0)
    candidates = [(share > threshold).float() for threshold in torch.linspace(0, 0.9, 19)]
    return max(candidates, key=lambda candidate: mask_iou(candidate.expand_as(masks), masks).mean().item())
