"""Alignments: what an evaluation takes out of a prediction before it measures the rest.

Each is a pure function from predicted points, annotated points and their validity to the predicted points moved, and
whether each sample has what it takes. Only valid points take part in finding the motion; all points are moved. Where a
sample lacks what it takes, the points are finite and mean nothing.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from hamr_lightning.errors import UserError
from hamr_lightning.skeleton import JOINT_COUNT, ROOT

Alignment: TypeAlias = Callable[
    [Float[Tensor, "b n 3"], Float[Tensor, "b n 3"], Bool[Tensor, "b n"]],
    tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]],
]


def align_none(
    predicted: Float[Tensor, "b n 3"], annotated: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Leave the points where they are."""
    return predicted, valid.new_ones(len(valid))


def align_root(
    predicted: Float[Tensor, "b n 3"], annotated: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Move the root joint onto the annotated one, which must be valid, and not alone: it has no error of its own.

    Raises:
        UserError: If the points are not the 21 joints.
    """
    _check_joints(predicted)
    return predicted - predicted[:, [ROOT]] + annotated[:, [ROOT]], valid[:, ROOT] & (valid.sum(dim=1) > 1)


def align_root_scale(
    predicted: Float[Tensor, "b n 3"],
    annotated: Float[Tensor, "b n 3"],
    valid: Bool[Tensor, "b n"],
    bone: tuple[int, int] = (ROOT, 9),
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Move the root joint onto the annotated one, and scale the hand so that a bone gets its annotated length.

    The root and the bone must be valid, and the bone longer than 0. A hand whose own bone has length 0 is not scaled.

    Args:
        predicted: Any unit, the annotation's.
        annotated: The same unit.
        valid: Points that count.
        bone: The joints between which the length is taken; by default the wrist and the middle finger's knuckle, as
            HO-3D's scorer does.

    Raises:
        UserError: If the points are not the 21 joints.
    """
    _check_joints(predicted)
    start, end = bone
    wanted, length = (
        torch.linalg.vector_norm(points[:, end] - points[:, start], dim=1) for points in (annotated, predicted)
    )
    moved = _ratio(wanted, length) * (predicted - predicted[:, [ROOT]]) + annotated[:, [ROOT]]
    return moved, valid[:, [ROOT, start, end]].all(dim=1) & (wanted > 0)


def align_centroid_scale(
    predicted: Float[Tensor, "b n 3"], annotated: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Make the centroid, and the mean distance from it, those of the annotation.

    That is how Dexter+Object's five finger tips are customarily compared (Minimal-Hand-pytorch's reading of "global
    alignment"); note that the scale is not that of least squares. It takes two valid points that do not coincide.
    """
    (offsets, _), (target, centre) = _centred(predicted, valid), _centred(annotated, valid)
    spread, wanted = (
        torch.where(valid, torch.linalg.vector_norm(points, dim=2), 0).sum(dim=1) for points in (offsets, target)
    )
    return _ratio(wanted, spread) * offsets + centre, wanted > 0


def align_procrustes(
    predicted: Float[Tensor, "b n 3"], annotated: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Move, turn and scale the points to the least sum of squared distances, without reflection (Umeyama 1991).

    It takes three valid points that do not all coincide. FreiHAND's and HO-3D's scorers do allow a reflection: where a
    mirrored hand would fit better, they report a smaller error.
    """
    (offsets, _), (target, centre) = _centred(predicted, valid), _centred(annotated, valid)
    source, target = (torch.where(valid[..., None], points, 0) for points in (offsets, target))
    u, strengths, vh = torch.linalg.svd(target.mT @ source)
    signs = torch.ones_like(strengths)
    signs[:, 2] = torch.linalg.det(u @ vh).sign()
    rotation = (u * signs[:, None]) @ vh
    scale = _ratio((signs * strengths).sum(dim=1), source.square().sum(dim=(1, 2)))
    return scale * (offsets @ rotation.mT) + centre, (valid.sum(dim=1) >= 3) & (target != 0).any(dim=2).any(dim=1)


ALIGNMENTS: Final[Mapping[str, Alignment]] = {
    "none": align_none,
    "root": align_root,
    "root_scale": align_root_scale,
    "centroid_scale": align_centroid_scale,
    "procrustes": align_procrustes,
}


def find_alignment(alignment: str | Alignment) -> Alignment:
    """Return an alignment by its name in :data:`ALIGNMENTS`, or as it is.

    Raises:
        UserError: If the name is not known.
    """
    if not isinstance(alignment, str):
        return alignment
    if alignment not in ALIGNMENTS:
        raise UserError(f"alignment must be one of {', '.join(ALIGNMENTS)}, got {alignment!r}")
    return ALIGNMENTS[alignment]


def align(
    predicted: Float[Tensor, "b n 3"],
    annotated: Float[Tensor, "b n 3"],
    valid: Bool[Tensor, "b n"],
    alignment: str | Alignment = "root",
) -> tuple[Float[Tensor, "b n 3"], Bool[Tensor, "b"]]:
    """Move predicted points onto annotated ones.

    Args:
        predicted: Any unit, the annotation's.
        annotated: Finite, also where it is not valid.
        valid: Points that count.
        alignment: A name of :data:`ALIGNMENTS`, or a function such as ``partial(align_root_scale, bone=(9, 10))``.

    Returns:
        The predicted points moved, as :func:`exact` gives them, and whether each sample has what the alignment takes.

    Raises:
        UserError: If a prediction is not finite, or the alignment is not known or not one for these points.
    """
    check_finite(predicted)
    predicted = exact(predicted)
    return find_alignment(alignment)(predicted, exact(annotated), valid.to(predicted.device))


def exact(values: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return values in float64; on the CPU if their device has no such numbers."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def check_finite(predicted: Tensor) -> None:
    """Raise UserError if predicted numbers are not finite."""
    if not predicted.isfinite().all():
        raise UserError(
            f"{(~predicted.isfinite()).sum()} of {predicted.numel()} predicted numbers are not finite: "
            "training has diverged; lower the learning rate or clip gradients"
        )


def _centred(
    points: Float[Tensor, "b n 3"], valid: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b 1 3"]]:
    """Return points relative to the centroid of the valid ones, and that centroid."""
    # Relative to one of them first: points that coincide are then exactly 0, not noise that would be scaled up.
    first = points.take_along_dim(valid.int().argmax(dim=1)[:, None, None], dim=1)
    total = torch.where(valid[..., None], points - first, 0).sum(dim=1, keepdim=True)
    centre = first + total / valid.sum(dim=1).clamp(min=1)[:, None, None]
    return points - centre, centre


def _ratio(wanted: Float[Tensor, "b"], length: Float[Tensor, "b"]) -> Float[Tensor, "b 1 1"]:
    return torch.where(length > 0, wanted / length, 1)[:, None, None]


def _check_joints(points: Float[Tensor, "b n 3"]) -> None:
    if points.shape[1] != JOINT_COUNT:
        raise UserError(
            f"an alignment by the root is for the {JOINT_COUNT} joints, got {points.shape[1]} points; "
            "choose alignment none, centroid_scale or procrustes"
        )
