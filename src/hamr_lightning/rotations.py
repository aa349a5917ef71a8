"""Rotations."""

import torch
from jaxtyping import Float
from torch import Tensor

_SMALL = 1e-3


def rotation_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the matrix of each rotation vector (Rodrigues' formula).

    Value and derivatives are right to rounding at every angle, zero included.

    Args:
        axis_angle: Axis times angle, in radians, of any length. NaN or infinity gives NaN.
    """
    half_squared = axis_angle.square().sum(-1) / 4
    small = half_squared < _SMALL
    half = torch.where(small, 1.0, half_squared).sqrt()
    # Below the bound the next terms are under 3e-17; the square root's derivative at 0 is never asked for.
    cosine = torch.where(small, _series(half_squared, 2, 24, 720), half.cos())
    sinc = torch.where(small, _series(half_squared, 6, 120, 5040), half.sin() / half)

    symmetric = sinc.square() / 2
    diagonal = 1 - symmetric * 4 * half_squared
    x, y, z = axis_angle.unbind(-1)
    ax, ay, az = ((sinc * cosine)[..., None] * axis_angle).unbind(-1)
    bx, by, bz = (symmetric[..., None] * axis_angle).unbind(-1)
    entries = (
        diagonal + bx * x, bx * y - az, bx * z + ay,
        bx * y + az, diagonal + by * y, by * z - ax,
        bx * z - ay, by * z + ax, diagonal + bz * z,
    )  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def _series(x: Tensor, first: int, second: int, third: int) -> Tensor:
    return 1 - x / first * (1 - x * (first / second) * (1 - x * (second / third)))
