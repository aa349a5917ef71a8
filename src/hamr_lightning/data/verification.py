"""Checks of a whole data set: every sample is read once, and its annotation held against itself and against hands."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.pinhole import project
from hamr_lightning.data.processes import map_indices
from hamr_lightning.skeleton import BONES, FINGERS, JOINT_NAMES, PARENTS

CANNOT_BE_READ: Final = "cannot be read"
NOT_WHOLE: Final = "not whole"

_REPROJECTION_PX: Final = 2.0
_NEAR: Final = 0.5
_MASK_NEAR: Final = 0.5
_MASK_INSIDE: Final = 0.8
_JOINTS_IN_MASK: Final = 0.1
_MASK_REACH: Final = 0.05

_BONES_MM: Final = {
    "thumb": (36, 40, 34, 28),
    "index": (92, 35, 25, 27),
    "middle": (88, 40, 28, 28),
    "ring": (85, 35, 26, 28),
    "pinky": (83, 31, 18, 20),
}
"""Typical lengths, base to tip, the first bone from the wrist: between those of the open hand (the mean over its
shapes) and of RHD's people."""
_SHORTEST, _LONGEST = 0.5, 1.6


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    kind: str
    source: str
    """The file or sample that it is in."""
    message: str


@dataclass(frozen=True)
class Verification:
    """What has been found in a split of a data set."""

    split: str
    samples: int
    published: int | None
    """How many samples the split has as published, if that is known."""
    findings: tuple[Finding, ...]


def verify(
    build: Callable[[], HandDataset],
    split: str,
    workers: int = 0,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda results, total: results,
) -> Verification:
    """Check a split of a data set, whatever is wrong with it. A count that is not the published one is no finding.

    Found are: annotation that is broken or warned of, samples that cannot be read, and in samples what
    :func:`check_sample` finds.

    Args:
        build: Builds the data set.
        split: Which split it builds.
        workers: Processes that read samples, at least 0; with 0 the calling process does.
        progress: Is given the results as they come and their number, and passes them on.

    Raises:
        UserError: If a worker process dies.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        try:
            dataset = build()
        except Exception as error:
            return Verification(split, 0, None, (Finding(CANNOT_BE_READ, "the annotation", _message(error)),))
    findings = [Finding(NOT_WHOLE, "the data set", str(warning.message)) for warning in warned]
    if not len(dataset):
        findings.append(Finding(NOT_WHOLE, "the data set", "it has no sample"))
    for found in progress(map_indices(partial(_check, dataset), len(dataset), workers), len(dataset)):
        findings += found
    return Verification(split, len(dataset), dataset.published.get(split), tuple(findings))


def check_sample(sample: HandSample) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a sample, as kind and message; nothing if all is well.

    - Everything annotated is finite (the depth's infinities are not asked for), and mask and depth are of the picture's
      size. Where not, nothing else is checked.
    - There are valid key points, or a box. Valid key points lie in the picture or near it: one at least inside, none
      further outside than half of the longer side (hands are cut by the border).
    - Valid joints lie before the camera, and their projections by the intrinsics within 2 pixels of the key points.
    - Bones between joints that are valid in 3D are from 0.5 to 1.6 times as long as is typical of adults, which also
      holds for children and for other sets' notions of where a joint is, but not in other units.
    - The mask covers a tenth, at least, of the key points in the picture, or comes within 5 % of the hand's extent of
      them (things may hide the others), and four fifths of it lie within half that extent of the key points' box.
    """
    broken = list(_check_values(sample))
    yield from broken
    if broken:
        return
    valid_2d, valid_3d = _valid(sample.joints_2d_valid), _valid(sample.joints_3d_valid)
    if valid_2d.any():
        yield from _check_place(sample.joints_2d_px[valid_2d], sample.image)
    elif sample.box_px is None:
        yield "key points", "neither a key point nor a box is annotated"
    if sample.joints_3d is not None:
        if sample.intrinsics is not None:
            both = valid_2d & valid_3d
            yield from _check_projection(sample.joints_3d[both], sample.joints_2d_px[both], sample.intrinsics)
        yield from _check_bones(sample.joints_3d, valid_3d)
    if sample.mask is not None and valid_2d.all():
        yield from _check_mask(sample.mask, sample.joints_2d_px)


def _check(dataset: HandDataset, index: int) -> list[Finding]:
    try:
        sample = dataset.sample(index, 0)
        return [Finding(kind, sample.source, message) for kind, message in check_sample(sample)]
    except Exception as error:
        return [Finding(CANNOT_BE_READ, f"sample {index}", _message(error))]


def _message(error: Exception) -> str:
    """Return what a data set says, and for other errors than it may raise also what they are."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def _check_values(sample: HandSample) -> Iterator[tuple[str, str]]:
    for field in fields(sample):
        value = getattr(sample, field.name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            wrong = np.isnan(value) if field.name == "depth" else ~np.isfinite(value)
            if wrong.any():
                yield "not finite", f"{field.name} has {np.count_nonzero(wrong)} values of {value.size} not finite"
    for name in ("mask", "depth"):
        picture = getattr(sample, name)
        if picture is not None and picture.shape != sample.image.shape[:2]:
            yield "sizes differ", f"the image is of shape {sample.image.shape[:2]}, {name} of {picture.shape}"


def _check_place(points: Float[np.ndarray, "n 2"], image: UInt8[np.ndarray, "h w 3"]) -> Iterator[tuple[str, str]]:
    size = np.array([image.shape[1], image.shape[0]])
    outside = np.maximum(np.maximum(-points, points - size), 0).max(axis=1)
    if outside.min() > 0:
        yield "key points", f"all lie outside the picture, the nearest {outside.min():.1f} pixels"
    elif outside.max() > _NEAR * size.max():
        yield "key points", f"one lies {outside.max():.1f} pixels outside the picture of {size[0]} x {size[1]}"


def _check_projection(
    joints: Float[np.ndarray, "n 3"], points: Float[np.ndarray, "n 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Iterator[tuple[str, str]]:
    if (joints[:, 2] <= 0).any():
        yield "2D and 3D", f"{np.count_nonzero(joints[:, 2] <= 0)} joints lie behind the camera"
        return
    distance = np.linalg.norm(project(joints.astype(np.float64), intrinsics) - points, axis=1)
    if distance.max(initial=0) > _REPROJECTION_PX:
        yield (
            "2D and 3D",
            f"a joint's projection lies {distance.max():.1f} pixels from its key point, {_REPROJECTION_PX:.0f} are "
            "allowed",
        )


def _check_bones(joints: Float[np.ndarray, "21 3"], valid: Bool[np.ndarray, "21"]) -> Iterator[tuple[str, str]]:
    wrong = []
    for parent, child in BONES:
        length, typical = 1000 * np.linalg.norm(joints[child] - joints[parent]), _TYPICAL_MM[child]
        if valid[parent] and valid[child] and not _SHORTEST * typical <= length <= _LONGEST * typical:
            allowed = f"{_SHORTEST * typical:.0f} to {_LONGEST * typical:.0f}"
            wrong.append(f"{JOINT_NAMES[parent]} to {JOINT_NAMES[child]} is {length:.1f} mm long, not {allowed}")
    if wrong:
        yield "bones", wrong[0] + (f"; so are {len(wrong) - 1} other bones" if len(wrong) > 1 else "")


def _check_mask(mask: UInt8[np.ndarray, "h w"], points: Float[np.ndarray, "21 2"]) -> Iterator[tuple[str, str]]:
    ys, xs = np.nonzero(mask > 127)
    if not len(xs):
        yield "mask", "the mask is empty"
        return
    low, high = points.min(axis=0), points.max(axis=0)
    extent = (high - low).max()
    pixels = np.column_stack([xs, ys]) + 0.5
    inside = ((pixels > low - _MASK_NEAR * extent) & (pixels < high + _MASK_NEAR * extent)).all(axis=1).mean()
    if inside < _MASK_INSIDE:
        yield "mask", f"{1 - inside:.0%} of the mask lies away from the key points"
    covered = _covered(mask, points, reach=max(1, round(_MASK_REACH * extent)))
    if covered < _JOINTS_IN_MASK:
        yield "mask", f"the mask holds {covered:.0%} of the key points in the picture"


def _covered(mask: UInt8[np.ndarray, "h w"], points: Float[np.ndarray, "21 2"], reach: int) -> float:
    """Return the share of points in the picture that lie in the mask or so many pixels from it; 1 if there are none."""
    height, width = mask.shape
    seen = points[((points >= 0) & (points < [width, height])).all(axis=1)].astype(int)
    if not len(seen):
        return 1.0
    side = 2 * min(reach, 50) + 1
    widened = cv2.dilate(mask, np.ones((side, side), np.uint8))
    return float((widened[seen[:, 1], seen[:, 0]] > 127).mean())


def _valid(valid: Bool[np.ndarray, "21"] | None) -> Bool[np.ndarray, "21"]:
    return np.ones(len(PARENTS), np.bool_) if valid is None else valid


_TYPICAL_MM: Final = {
    joint: length for finger, joints in FINGERS.items() for joint, length in zip(joints, _BONES_MM[finger], strict=True)
}
