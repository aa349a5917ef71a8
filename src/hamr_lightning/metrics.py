"""What is reported: functions, and the torchmetrics classes that accumulate them.

Every figure is of all samples seen, whatever the batches they came in, and of valid annotation alone. A prediction
that is not finite raises UserError, a ValueError: it has no error that could be reported.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from hamr_lightning.errors import UserError
from hamr_lightning.losses.seg import average_to
from hamr_lightning.skeleton import ROOT


def joint_errors_mm(predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"]) -> Float[Tensor, "b 21"]:
    """Return each joint's distance in millimetres after the roots are aligned; the root's own is 0.

    Args:
        predicted: Metres.
        annotated: Metres; the root must be valid.

    Raises:
        UserError: If a prediction is not finite.
    """
    _check_finite(predicted)
    aligned = (predicted - predicted[:, [ROOT]]) - (annotated - annotated[:, [ROOT]])
    return 1000 * torch.linalg.vector_norm(aligned, dim=-1)


def mask_iou(silhouette: Float[Tensor, "b s s"], mask: Float[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return the intersection over union of the pixels that are covered by more than half; 1 where both are empty.

    The pixels are the silhouette's: the mask is averaged to them first.

    Args:
        silhouette: Predicted coverage in [0, 1].
        mask: Annotated coverage in [0, 1], its sides multiples of the silhouette's.

    Raises:
        UserError: If a prediction is not finite, or the sides do not fit.
    """
    _check_finite(silhouette)
    predicted, annotated = silhouette > 0.5, average_to(mask, silhouette.shape[-1]) > 0.5
    union = (predicted | annotated).sum(dim=(1, 2))
    intersection = (predicted & annotated).sum(dim=(1, 2))
    return torch.where(union > 0, intersection / union, 1.0)


class MeanOverValid(Metric):
    """Mean of the valid samples' values, such as a loss's; 0 if none was valid."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Float[Tensor, "b"], valid: Bool[Tensor, "b"]) -> None:
        """Take in a batch."""
        self.total += torch.where(valid, values, 0).sum()
        self.count += valid.sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean."""
        return self.total / self.count.clamp(min=1)


class MeanJointError(Metric):
    """Mean distance of the valid joints in millimetres, roots aligned; the root counts, with 0, as is customary."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"], valid: Bool[Tensor, "b 21"]
    ) -> None:
        """Take in a batch; see :func:`joint_errors_mm`."""
        errors = joint_errors_mm(predicted, annotated)
        self.total += torch.where(valid, errors, 0).sum()
        self.count += valid.sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean; NaN if no joint was valid."""
        return self.total / self.count


class PCKAUC(Metric):
    """Area under the curve of the 3D PCK (percentage of correct key points), in [0, 1].

    A joint is correct if its distance, roots aligned, is at most the threshold; all valid joints of all samples make
    one curve, the root among them. The area is by the trapezoidal rule, divided by the range.

    Args:
        start_mm: The first threshold.
        stop_mm: The last threshold.
        steps: How many thresholds, evenly spaced.
    """

    full_state_update = False
    thresholds_mm: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self, start_mm: float = 20.0, stop_mm: float = 50.0, steps: int = 20) -> None:
        super().__init__()
        if not 0 <= start_mm < stop_mm or steps < 2:
            raise ValueError(
                f"PCKAUC: needs 0 <= start_mm < stop_mm and steps of at least 2, got {start_mm}, {stop_mm} and {steps}"
            )
        self.register_buffer("thresholds_mm", torch.linspace(start_mm, stop_mm, steps), persistent=False)
        self.add_state("correct", torch.zeros(steps, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"], valid: Bool[Tensor, "b 21"]
    ) -> None:
        """Take in a batch; see :func:`joint_errors_mm`."""
        errors = joint_errors_mm(predicted, annotated)
        within = (errors[..., None] <= self.thresholds_mm) & valid[..., None]
        self.correct += within.sum(dim=(0, 1))
        self.count += valid.sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the area; NaN if no joint was valid."""
        pck = self.correct / self.count
        return torch.trapezoid(pck, self.thresholds_mm) / (self.thresholds_mm[-1] - self.thresholds_mm[0])


class MeanIoU(Metric):
    """Mean of the valid samples' :func:`mask_iou`."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self, silhouette: Float[Tensor, "b s s"], mask: Float[Tensor, "b h w"], valid: Bool[Tensor, "b"]
    ) -> None:
        """Take in a batch; see :func:`mask_iou`."""
        self.total += torch.where(valid, mask_iou(silhouette, mask), 0).sum()
        self.count += valid.sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean; NaN if no sample was valid."""
        return self.total / self.count


def _check_finite(predicted: Tensor) -> None:
    if not predicted.isfinite().all():
        raise UserError(
            f"{(~predicted.isfinite()).sum()} of {predicted.numel()} predicted numbers are not finite: "
            "training has diverged; lower the learning rate or clip gradients"
        )
