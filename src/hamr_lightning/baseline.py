"""The best constant prediction: what a model must beat to have learned anything from the image."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from hamr_lightning.losses.seg import average_to
from hamr_lightning.metrics import PCKAUC, MeanIoU, MeanJointError, mask_iou
from hamr_lightning.types import HandBatch


def constant_baseline(training: Iterable[HandBatch], validation: Iterable[HandBatch], size: int) -> dict[str, float]:
    """Find the best constant prediction for the training data and return its figures on the validation data.

    The joints are each joint's geometric median, of which no constant has a smaller mean error. The silhouette holds
    the pixels that are on the hand in more than a certain share of the masks, that share having the best mean IoU.
    Processes of a distributed run do not wait for each other here: each has the figures of its own batches.

    Args:
        training: Batches to find the prediction from.
        validation: Batches to measure it on, with the metrics that the model reports.
        size: Side of the silhouette in pixels, the renderer's.

    Returns:
        ``auc_3d`` and ``joint_error_mm``, and ``miou``, each only if training and validation data have what it takes.
    """
    joints, silhouette = _best_constant(training, size)
    auc_3d, joint_error, miou = metrics = PCKAUC(), MeanJointError(), MeanIoU()
    for metric in metrics:
        metric.distributed_available_fn = lambda: False
    figures: dict[str, Metric] = {}
    for batch in validation:
        if joints is not None and batch.joints_3d is not None and batch.has("joints_3d").any():
            arguments = joints.expand_as(batch.joints_3d), batch.joints_3d, batch.validity("joints_3d")
            figures |= {"auc_3d": auc_3d, "joint_error_mm": joint_error}
            auc_3d.update(*arguments)
            joint_error.update(*arguments)
        if silhouette is not None and batch.mask is not None and batch.has("mask").any():
            figures["miou"] = miou
            miou.update(silhouette.expand(len(batch), -1, -1), batch.mask, batch.validity("mask"))
    return {name: metric.compute().item() for name, metric in figures.items()}


def _best_constant(
    batches: Iterable[HandBatch], size: int
) -> tuple[Float[Tensor, "21 3"] | None, Float[Tensor, "{size} {size}"] | None]:
    joints, joints_valid, masks = [], [], []
    for batch in batches:
        if batch.joints_3d is not None and batch.has("joints_3d").any():
            joints.append(batch.joints_3d)
            joints_valid.append(batch.validity("joints_3d"))
        if batch.mask is not None and batch.has("mask").any():
            masks.append(average_to(batch.mask[batch.validity("mask")], size))
    return (
        _geometric_median(torch.cat(joints), torch.cat(joints_valid)) if joints else None,
        _best_silhouette(torch.cat(masks)) if masks else None,
    )


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
