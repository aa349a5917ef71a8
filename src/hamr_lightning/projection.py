"""The weak-perspective camera: projection, and the camera that annotation implies."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hamr_lightning.skeleton import BONES


def project(points: Float[Tensor, "b n 3"], camera: Float[Tensor, "b 3"]) -> Float[Tensor, "b n 2"]:
    """Project points: ``(s (x + tx), s (y + ty))`` (paper, Eq. 5). Half precision is computed in float32.

    Args:
        points: Metres, camera axes.
        camera: (s, tx, ty), s in crop units per metre, tx and ty in metres.

    Returns:
        Crop units.
    """
    points, camera = _at_least_float32(points), _at_least_float32(camera)
    return camera[:, None, :1] * (points[..., :2] + camera[:, None, 1:])


def fit_camera(
    joints_3d: Float[Tensor, "b 21 3"],
    joints_2d: Float[Tensor, "b 21 2"],
    valid: Bool[Tensor, "b 21"] | None = None,
) -> Float[Tensor, "b 3"]:
    """Compute the camera that paired annotations imply (paper, section 3.1: its "ground-truth" camera).

    s is the ratio of the average 2D to the average 3D bone length; (tx, ty) is the mean of ``(u, v) / s - (x, y)``
    over the joints. The paper leaves open how a 3D bone is measured. Here it is by its x and y alone: that is the part
    which a weak-perspective camera sees, so the result is exact on noise-free data, where the full length would make s
    too small by the bones' mean foreshortening.

    Args:
        joints_3d: Metres, camera axes.
        joints_2d: Crop units.
        valid: Joints that count, all by default. A bone counts if both its ends do.

    Returns:
        (s, tx, ty), s in crop units per metre, tx and ty in metres; NaN for a sample that has no usable bone, or whose
        bones all have length 0 in 2D or in the image plane.
    """
    flat, joints_2d = _at_least_float32(joints_3d[..., :2]), _at_least_float32(joints_2d)
    if valid is None:
        valid = torch.ones_like(flat[..., 0], dtype=torch.bool)
    parents, children = (list(ends) for ends in zip(*BONES, strict=True))
    usable = valid[:, parents] & valid[:, children]
    length_2d, length_3d = (
        torch.where(usable, (joints[:, children] - joints[:, parents]).norm(dim=-1), 0).sum(1)
        for joints in (joints_2d, flat)
    )
    determined = (length_2d > 0) & (length_3d > 0)
    scale = torch.where(determined, length_2d / length_3d, torch.nan)
    offsets = torch.where(valid[..., None], joints_2d / scale[:, None, None] - flat, 0)
    translation = offsets.sum(1) / valid.sum(1, keepdim=True)
    return torch.where(determined[:, None], torch.cat([scale[:, None], translation], 1), torch.nan)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
