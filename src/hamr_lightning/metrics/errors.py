"""What is measured: pure functions of a batch of predictions and its annotation.

A prediction that is not finite raises UserError, a ValueError: it has no error that could be reported. Annotation that
does not count is finite and may be anything. Distances are computed in float64 and returned in float32.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hamr_lightning.losses.seg import average_to
from hamr_lightning.metrics.alignment import Alignment, align, check_finite, exact

_F_SCORE_CHUNK = 8


def point_errors_mm(
    predicted: Float[Tensor, "b n 3"],
    annotated: Float[Tensor, "b n 3"],
    valid: Bool[Tensor, "b n"],
    alignment: str | Alignment = "root",
) -> tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Return each point's distance in millimetres after alignment, and which of them count.

    Args:
        predicted: Joints or vertices, metres.
        annotated: The same points, metres.
        valid: Points whose annotation is valid.
        alignment: See :func:`~hamr_lightning.metrics.align`.

    Returns:
        Distances, 0 where they do not count; and the points that count: the valid ones of the samples that have what
        the alignment takes.

    Raises:
        UserError: If a prediction is not finite, or the alignment is not one for these points.
    """
    aligned, usable = align(predicted, annotated, valid, alignment)
    errors = 1000 * torch.linalg.vector_norm(aligned - exact(annotated), dim=2)
    counts = valid & usable[:, None].to(valid.device)
    return torch.where(counts, errors.float().to(counts.device), 0), counts


def point_errors_2d(predicted: Float[Tensor, "b n 2"], annotated: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n"]:
    """Return each point's distance in the image, in the unit given.

    Args:
        predicted: Pixels, or crop units.
        annotated: The same unit.

    Raises:
        UserError: If a prediction is not finite.
    """
    check_finite(predicted)
    return torch.linalg.vector_norm(exact(predicted) - exact(annotated), dim=2).float().to(predicted.device)


def pck_curve(
    errors: Float[Tensor, "*points"], counts: Bool[Tensor, "*points"], thresholds: Float[Tensor, "t"]
) -> Float[Tensor, "t"]:
    """Return the share of points whose error is at most each threshold; NaN if none counts.

    All points that count make one curve. FreiHAND's and hand3d's EvalUtil averages a curve for each key point instead:
    the same, unless key points differ in how many valid annotations they have.

    Args:
        errors: In any unit.
        counts: Points that count.
        thresholds: In the errors' unit.
    """
    return count_within(errors, counts, thresholds) / counts.sum()


def count_within(
    errors: Float[Tensor, "*points"], counts: Bool[Tensor, "*points"], thresholds: Float[Tensor, "t"]
) -> Int[Tensor, "t"]:
    """Return how many of the points that count have an error of at most each threshold."""
    return torch.searchsorted(errors[counts].sort().values, thresholds.to(errors), right=True)


def area_under_curve(curve: Float[Tensor, "t"], thresholds: Float[Tensor, "t"]) -> Float[Tensor, ""]:
    """Return the area by the trapezoidal rule, divided by the thresholds' range: that of a PCK is in [0, 1]."""
    thresholds = exact(thresholds)
    return (
        (torch.trapezoid(exact(curve), thresholds) / (thresholds[-1] - thresholds[0])).to(curve.dtype).to(curve.device)
    )


def f_score(
    predicted: Float[Tensor, "b v 3"], annotated: Float[Tensor, "b w 3"], threshold_mm: float
) -> Float[Tensor, "b"]:
    """Return each sample's F-score: the harmonic mean of precision and recall, 0 where both are 0.

    Precision is the share of predicted vertices that are nearer than the threshold to some annotated vertex, recall the
    share of annotated ones that are so to a predicted one (FreiHAND's scorer, after Knapitsch et al. 2017).

    Args:
        predicted: Vertices, metres; :func:`~hamr_lightning.metrics.align` them first for the "aligned" figure.
        annotated: Vertices, metres; there may be another number of them.
        threshold_mm: Millimetres.

    Raises:
        UserError: If a prediction is not finite.
    """
    check_finite(predicted)
    # In chunks, since a batch's distances between all vertices take hundreds of MB.
    chunks = zip(exact(predicted).split(_F_SCORE_CHUNK), exact(annotated).split(_F_SCORE_CHUNK), strict=True)
    scores = torch.cat([_f_score(*chunk, threshold_mm) for chunk in chunks])
    return scores.float().to(predicted.device)


def _f_score(
    predicted: Float[Tensor, "b v 3"], annotated: Float[Tensor, "b w 3"], threshold_mm: float
) -> Float[Tensor, "b"]:
    distances = 1000 * torch.cdist(predicted, annotated, compute_mode="donot_use_mm_for_euclid_dist")
    precision, recall = ((distances.amin(dim=dim) < threshold_mm).double().mean(dim=1) for dim in (2, 1))
    return 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(torch.double).tiny)


def camera_errors(
    predicted: Float[Tensor, "b 3"], annotated: Float[Tensor, "b 3"]
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Bool[Tensor, "b"]]:
    """Compare weak-perspective cameras (s, tx, ty).

    Args:
        predicted: s in crop units per metre, tx and ty in metres.
        annotated: Likewise, as :func:`~hamr_lightning.projection.fit_camera` gives it.

    Returns:
        The scale's relative error ``|s / s_annotated - 1|``; the translation's distance in millimetres; and which
        samples count: those whose annotated camera is finite, with a scale above 0. Both are 0 where they do not count.

    Raises:
        UserError: If a prediction is not finite.
    """
    check_finite(predicted)
    counts = annotated.isfinite().all(dim=1) & (annotated[:, 0] > 0)
    predicted, annotated = exact(predicted), exact(torch.where(counts[:, None], annotated, 1))
    scale = (predicted[:, 0] / annotated[:, 0] - 1).abs()
    translation_mm = 1000 * torch.linalg.vector_norm(predicted[:, 1:] - annotated[:, 1:], dim=1)
    scale, translation_mm = (
        torch.where(counts, error.float().to(counts.device), 0) for error in (scale, translation_mm)
    )
    return scale, translation_mm, counts


def mask_iou(silhouette: Float[Tensor, "b s s"], mask: Float[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return the intersection over union of the pixels that are covered by more than half; 1 where both are empty.

    The pixels are the silhouette's: the mask is averaged to them first.

    Args:
        silhouette: Predicted coverage in [0, 1].
        mask: Annotated coverage in [0, 1], its sides multiples of the silhouette's.

    Raises:
        UserError: If a prediction is not finite, or the sides do not fit.
    """
    check_finite(silhouette)
    predicted, annotated = silhouette > 0.5, average_to(mask, silhouette.shape[-1]) > 0.5
    union = (predicted | annotated).sum(dim=(1, 2))
    intersection = (predicted & annotated).sum(dim=(1, 2))
    return torch.where(union > 0, intersection / union, 1.0)
