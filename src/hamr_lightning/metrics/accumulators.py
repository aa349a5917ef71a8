"""The torchmetrics classes, which hold what the functions measured.

Every figure is of all samples seen, whatever the batches, the order and the processes they came in: errors are summed
as integers, so that the sums are exact. In a mean, an error above 1e4 (10 m, if in millimetres) counts as 1e4. A figure
of nothing is NaN. What the functions refuse raises here as well.
"""

import math
from abc import ABC
from collections.abc import Mapping
from typing import Final, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hamr_lightning.errors import UserError
from hamr_lightning.metrics.alignment import Alignment, align, exact, find_alignment
from hamr_lightning.metrics.errors import (
    area_under_curve,
    camera_errors,
    count_within,
    f_score,
    mask_iou,
    point_errors_2d,
    point_errors_mm,
)

_UNITS: Final = 2**24
"""Units of the integer sums to 1: a float32 of at least 0.5 is a whole number of them."""

_LARGEST: Final = 1e4
"""What an error counts at most, so that 5e7 of them cannot overflow a sum."""


class _Mean(Metric, ABC):
    """A mean of float32 errors that count."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean; NaN of nothing."""
        return _mean(self.total, self.count)

    def _add(self, errors: Float[Tensor, "*points"], counts: Bool[Tensor, "*points"]) -> None:
        self.total += _fixed_sum(errors, counts)
        self.count += counts.sum()


@final
class MeanJointError(_Mean):
    """Mean distance of the joints that count, in millimetres.

    "root" gives the customary MPJPE, in which the root counts with 0; "procrustes" gives PA-MPJPE.

    Args:
        alignment: See :func:`~hamr_lightning.metrics.align`.
    """

    def __init__(self, alignment: str | Alignment = "root") -> None:
        super().__init__()
        self._alignment = find_alignment(alignment)

    def update(
        self, predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"], valid: Bool[Tensor, "b 21"]
    ) -> None:
        """Take in a batch; see :func:`~hamr_lightning.metrics.point_errors_mm`."""
        self._add(*point_errors_mm(predicted, annotated, valid, self._alignment))


@final
class MeanVertexError(_Mean):
    """Mean distance of the valid samples' vertices, in millimetres.

    "none" gives MPVPE, as a batch's vertices are relative to the root already; "procrustes" gives PA-MPVPE.

    Args:
        alignment: See :func:`~hamr_lightning.metrics.align`.
    """

    def __init__(self, alignment: str | Alignment = "none") -> None:
        super().__init__()
        self._alignment = find_alignment(alignment)

    def update(
        self, predicted: Float[Tensor, "b v 3"], annotated: Float[Tensor, "b v 3"], valid: Bool[Tensor, "b"]
    ) -> None:
        """Take in a batch; see :func:`~hamr_lightning.metrics.point_errors_mm`."""
        self._add(*point_errors_mm(predicted, annotated, _of_points(valid, predicted), self._alignment))


@final
class FScore(_Mean):
    """Mean of the valid samples' :func:`~hamr_lightning.metrics.f_score`.

    Args:
        threshold_mm: Millimetres; FreiHAND reports 5 and 15.
        alignment: See :func:`~hamr_lightning.metrics.align`; papers report "procrustes".
    """

    def __init__(self, threshold_mm: float, alignment: str | Alignment = "procrustes") -> None:
        super().__init__()
        if not threshold_mm > 0:
            raise UserError(f"FScore: threshold_mm must be above 0, got {threshold_mm}")
        self._threshold_mm = threshold_mm
        self._alignment = find_alignment(alignment)

    def update(
        self, predicted: Float[Tensor, "b v 3"], annotated: Float[Tensor, "b v 3"], valid: Bool[Tensor, "b"]
    ) -> None:
        """Take in a batch."""
        aligned, usable = align(predicted, annotated, _of_points(valid, predicted), self._alignment)
        self._add(f_score(aligned, annotated, self._threshold_mm).to(valid.device), valid & usable.to(valid.device))


@final
class MeanIoU(_Mean):
    """Mean of the valid samples' :func:`~hamr_lightning.metrics.mask_iou`."""

    def update(
        self, silhouette: Float[Tensor, "b s s"], mask: Float[Tensor, "b h w"], valid: Bool[Tensor, "b"]
    ) -> None:
        """Take in a batch."""
        self._add(mask_iou(silhouette, mask), valid)


@final
class MeanCameraError(Metric):
    """Means of :func:`~hamr_lightning.metrics.camera_errors` over the samples that have an annotated camera."""

    full_state_update = False
    scale_total: Tensor
    translation_total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("scale_total", "translation_total", "count"):
            self.add_state(state, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Float[Tensor, "b 3"], annotated: Float[Tensor, "b 3"]) -> None:
        """Take in a batch; an annotated camera of NaN does not count."""
        scale, translation_mm, counts = camera_errors(predicted, annotated)
        self.scale_total += _fixed_sum(scale, counts)
        self.translation_total += _fixed_sum(translation_mm, counts)
        self.count += counts.sum()

    def compute(self) -> Mapping[str, Float[Tensor, ""]]:
        """Return ``scale``, relative, and ``translation_mm``; NaN of nothing."""
        return {
            "scale": _mean(self.scale_total, self.count),
            "translation_mm": _mean(self.translation_total, self.count),
        }


@final
class MedianJointError(Metric):
    """Median distance of the joints that count, in millimetres, of an even number the mean of the middle two.

    It holds every distance until it is computed.

    Args:
        alignment: See :func:`~hamr_lightning.metrics.align`.
    """

    full_state_update = False
    errors: list[Tensor]

    def __init__(self, alignment: str | Alignment = "root") -> None:
        super().__init__()
        self._alignment = find_alignment(alignment)
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(
        self, predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"], valid: Bool[Tensor, "b 21"]
    ) -> None:
        """Take in a batch; see :func:`~hamr_lightning.metrics.point_errors_mm`."""
        errors, counts = point_errors_mm(predicted, annotated, valid, self._alignment)
        self.errors.append(errors[counts])

    def compute(self) -> Float[Tensor, ""]:
        """Return the median; NaN of nothing."""
        errors = dim_zero_cat(self.errors) if len(self.errors) else torch.zeros(0, device=self.device)
        # torch's median is the lower of the middle two.
        return (errors.median() - (-errors).median()) / 2


class _PCK(Metric, ABC):
    """A curve of the PCK (percentage of correct key points) and the area under it."""

    full_state_update = False
    correct: Tensor
    count: Tensor

    def __init__(self, start: float, stop: float, steps: int) -> None:
        super().__init__()
        if not 0 <= start < stop < math.inf or steps < 2:
            raise UserError(
                f"{type(self).__name__}: needs 0 <= start < stop and steps of at least 2, got {start}, {stop}, {steps}"
            )
        # Not a buffer, which a model in half precision would round.
        self._thresholds = torch.linspace(start, stop, steps)
        self.add_state("correct", torch.zeros(steps, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Float[Tensor, ""]:
        """Return the area, in [0, 1]; NaN of nothing."""
        pck = self.correct / self.count
        return area_under_curve(pck, self._thresholds.to(pck))

    def curve(self) -> tuple[Float[Tensor, "steps"], Float[Tensor, "steps"]]:
        """Return the thresholds and the share of points whose error is at most each, of all processes together.

        Like compute, every process must call it.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=self.distributed_available_fn):
            pck = self.correct / self.count
        return self._thresholds.to(pck), pck

    def _add(self, errors: Float[Tensor, "*points"], counts: Bool[Tensor, "*points"]) -> None:
        self.correct += count_within(errors, counts, self._thresholds)
        self.count += counts.sum()


@final
class PCKAUC(_PCK):
    """Area under the curve of the 3D PCK, see :func:`~hamr_lightning.metrics.pck_curve`.

    Args:
        start_mm: The first threshold.
        stop_mm: The last threshold.
        steps: How many thresholds, evenly spaced.
        alignment: See :func:`~hamr_lightning.metrics.align`. With "root", the root counts with 0.
    """

    def __init__(
        self,
        start_mm: float = 20.0,
        stop_mm: float = 50.0,
        steps: int = 20,
        alignment: str | Alignment = "root",
    ) -> None:
        super().__init__(start_mm, stop_mm, steps)
        self._alignment = find_alignment(alignment)

    def update(
        self, predicted: Float[Tensor, "b 21 3"], annotated: Float[Tensor, "b 21 3"], valid: Bool[Tensor, "b 21"]
    ) -> None:
        """Take in a batch; see :func:`~hamr_lightning.metrics.point_errors_mm`."""
        self._add(*point_errors_mm(predicted, annotated, valid, self._alignment))


@final
class PCKAUC2D(_PCK):
    """Area under the curve of the 2D PCK, see :func:`~hamr_lightning.metrics.pck_curve`.

    The default thresholds are those of hand3d, for pixels.

    Args:
        start: The first threshold, in the points' unit.
        stop: The last threshold, in the points' unit.
        steps: How many thresholds, evenly spaced.
    """

    def __init__(self, start: float = 0.0, stop: float = 30.0, steps: int = 20) -> None:
        super().__init__(start, stop, steps)

    def update(
        self, predicted: Float[Tensor, "b n 2"], annotated: Float[Tensor, "b n 2"], valid: Bool[Tensor, "b n"]
    ) -> None:
        """Take in a batch; see :func:`~hamr_lightning.metrics.point_errors_2d`."""
        self._add(point_errors_2d(predicted, annotated), valid)


@final
class MeanOverValid(Metric):
    """Mean of the valid samples' values of any size, such as a loss's; NaN if none was valid.

    The sum is in float32, so that its last digits depend on the order.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: Float[Tensor, "b"], valid: Bool[Tensor, "b"]) -> None:
        """Take in a batch. NaN counts as infinity: what broke is not what was not there."""
        self.total += torch.where(valid, values.nan_to_num(nan=torch.inf), 0).sum()
        self.count += valid.sum()

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean."""
        return self.total / self.count


def _fixed_sum(values: Float[Tensor, "*points"], counts: Bool[Tensor, "*points"]) -> Int[Tensor, ""]:
    return (values[counts].clamp(max=_LARGEST) * _UNITS).round().long().sum()


def _mean(total: Int[Tensor, ""], count: Int[Tensor, ""]) -> Float[Tensor, ""]:
    return (exact(total) / exact(count) / _UNITS).float().to(total.device)


def _of_points(valid: Bool[Tensor, "b"], points: Float[Tensor, "b n 3"]) -> Bool[Tensor, "b n"]:
    return valid[:, None].expand(points.shape[:2])
