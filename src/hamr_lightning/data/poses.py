"""Anatomical hand poses: joint limits, coupled joints and named grips, as MANO's 45 axis-angle numbers.

A pose is made from angles: flexion, abduction and twist (degrees) of each of the 15 finger joints in MANO's order,
about axes fixed to MANO's rest hand (fingers along -x, palm facing -y, thumb towards +z). Flexion curls towards the
palm, abduction moves towards the thumb's side. Limits are within the clinical ranges of motion.
"""

from typing import Final

import numpy as np
from jaxtyping import Float

_BONES: Final = ((-1, 0, 0.07), (-1, 0, -0.03), (-0.95, 0, -0.32), (-0.98, 0, -0.19), (-0.66, -0.25, 0.7))
"""Where each finger points at rest."""

_BACKS: Final = ((0, 1, 0),) * 4 + ((1, 1, 1),)
"""Where each finger's nail faces at rest, roughly."""

_LIMITS: Final = np.array(
    [
        *[[(-20, 86), (-16, 18), (-4, 4)], [(-3, 102), (0, 0), (0, 0)], [(-5, 66), (0, 0), (0, 0)]],
        *[[(-20, 88), (-12, 12), (-3, 3)], [(-3, 104), (0, 0), (0, 0)], [(-5, 68), (0, 0), (0, 0)]],
        *[[(-22, 90), (-18, 16), (-6, 6)], [(-3, 98), (0, 0), (0, 0)], [(-5, 66), (0, 0), (0, 0)]],
        *[[(-20, 88), (-12, 12), (-4, 4)], [(-3, 102), (0, 0), (0, 0)], [(-5, 66), (0, 0), (0, 0)]],
        *[[(-25, 45), (-20, 38), (-30, 12)], [(-10, 55), (-8, 8), (0, 0)], [(-15, 78), (0, 0), (0, 0)]],
    ],
    dtype=np.float64,
)
"""Least and greatest flexion, abduction and twist of each joint."""

_SPREADING: Final = np.array([8.0, 1.0, -9.0, -4.0])
"""How index, middle, pinky and ring move when the fingers spread."""

_ENSLAVING: Final = np.array([[0.9, 0.15, 0, 0], [0.1, 0.7, 0, 0.2], [0, 0, 0.75, 0.2], [0, 0.15, 0.25, 0.6]])
"""How much of each finger's curl (rows: index, middle, pinky, ring) goes to each finger: none moves quite alone."""

_CROSSING: Final = 6.0
"""How far a finger may be turned towards its neighbour: as far as makes them parallel."""

_NAMED: Final[dict[str, tuple[tuple[float, ...], ...]]] = {
    # index, middle, pinky, ring: flexion of the three joints, abduction; thumb: the same, then twist
    "flat": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0, 0)),
    "spread": ((-5, 0, 0, 14), (-5, 0, 0, 3), (-5, 0, 0, -16), (-5, 0, 0, -8), (-20, -5, -5, -8, 0)),
    "relaxed": ((15, 25, 12, 0), (22, 30, 18, 0), (30, 35, 20, 0), (26, 33, 20, 0), (8, 12, 15, 12, -6)),
    "fist": ((78, 97, 58, 0), (80, 98, 60, 0), (82, 93, 58, 6), (81, 97, 59, 2), (8, 44, 48, 37, -22)),
    "thumb_up": ((78, 97, 58, 0), (80, 98, 60, 0), (82, 93, 58, 6), (81, 97, 59, 2), (-22, -5, -8, -10, 0)),
    "point": ((0, 3, 2, 0), (80, 98, 60, 0), (82, 93, 58, 4), (81, 97, 59, 2), (33, 23, 54, 37, -19)),
    "victory": ((0, 3, 2, 12), (0, 3, 2, -8), (82, 93, 58, 4), (81, 97, 59, 2), (33, 23, 54, 37, -19)),
    "call": ((78, 97, 58, 0), (80, 98, 60, 0), (-5, 3, 2, -12), (80, 95, 58, 2), (-22, -5, -8, -10, 0)),
    "pinch": ((51, 49, 28, -7), (38, 36, 22, 0), (25, 30, 18, -4), (30, 32, 20, -2), (27, 12, 11, 19, -15)),
    "ok": ((51, 49, 28, -7), (12, 8, 4, 2), (-8, 5, 3, -12), (0, 6, 4, -5), (27, 12, 11, 19, -15)),
    "key": ((60, 70, 40, 0), (65, 75, 45, 0), (70, 75, 45, 2), (68, 75, 45, 1), (10, 21, 24, 5, -11)),
    "grasp": ((45, 40, 25, 6), (48, 42, 26, 1), (52, 42, 26, -8), (50, 44, 28, -4), (12, 15, 18, 30, -18)),
    "hook": ((5, 90, 55, 0), (6, 92, 56, 0), (10, 88, 55, 0), (8, 92, 56, 0), (0, 10, 10, 0, 0)),
    "tabletop": ((80, 5, 3, 0), (82, 5, 3, 0), (84, 5, 3, 0), (82, 5, 3, 0), (5, 5, 5, 5, 0)),
}


def _rest_axes() -> Float[np.ndarray, "15 3 3"]:
    """Return each joint's axes of flexion, abduction and twist, as rows."""
    bone = np.array(_BONES) / np.linalg.norm(_BONES, axis=1, keepdims=True)
    flexion = np.cross(_BACKS, bone)
    flexion /= np.linalg.norm(flexion, axis=1, keepdims=True)
    return np.stack([flexion, np.cross(bone, flexion), bone], axis=1).repeat(3, axis=0)


_AXES: Final = _rest_axes()


def pose_from_angles(angles: Float[np.ndarray, "n 15 3"]) -> Float[np.ndarray, "n 45"]:
    """Turn flexion, abduction and twist (degrees) of the 15 joints into axis-angle poses (radians).

    Twist acts first, then flexion, then abduction.
    """
    flexion, abduction, twist = np.moveaxis(_rotations(np.radians(angles)[..., None] * _AXES), -3, 0)
    return _axis_angles(abduction @ flexion @ twist).reshape(len(angles), 45)


def named_poses() -> dict[str, Float[np.ndarray, "45"]]:
    """Return poses by name, radians: flat, spread, relaxed, fist, thumb_up, point, pinch, ok, grasp and more."""
    return dict(zip(_NAMED, pose_from_angles(_NAMED_ANGLES), strict=True))


def sample_hand_poses(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 45"]:
    """Sample poses within the joint limits: half around the named poses, half from freely curling fingers.

    Radians, full rotations (the hand model's mean pose contained). Fingers curl together to a varying degree, a
    finger's last joint bends about two thirds as far as the one before it, bent fingers do not spread, neighbours do
    not cross, and the thumb keeps out of the way of curled fingers.
    """
    named = rng.random((count, 1, 1)) < 0.5
    angles = np.where(named, _near_named(rng, count), _curled(rng, count)) + _noise(rng, count)
    return pose_from_angles(_within_limits(angles))


def _near_named(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 15 3"]:
    """Sample between two named poses, mostly near one of them."""
    first, second = _NAMED_ANGLES[rng.integers(len(_NAMED), size=(2, count))]
    share = rng.beta(0.3, 0.3, (count, 1, 1))
    return (1 - share) * first + share * second


def _curled(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 15 3"]:
    """Sample how far each finger curls, more or less together, and how far the thumb reaches across."""
    together = rng.random((count, 1))
    curl = together * rng.beta(0.8, 1.0, (count, 1)) + (1 - together) * rng.beta(0.5, 0.7, (count, 4)) @ _ENSLAVING
    knuckle, middle = np.clip(curl + rng.normal(0, 0.15, (2, count, 4)), 0, 1)
    angles = np.zeros((count, 5, 3, 3))
    angles[:, :4, 0, 0] = 84 * knuckle
    angles[:, :4, 1, 0] = 100 * middle
    angles[:, :4, 2, 0] = 64 * middle
    angles[:, :4, 0, 1] = rng.normal(0, 1, (count, 1)) * _SPREADING * (1 - knuckle)
    reach = rng.random((count, 1, 1))
    in_the_way = np.clip(2 * curl[:, :2].mean(axis=1) - 0.8, 0, 1)[:, None, None]
    free = (1 - reach) * _thumb("spread") + reach * _thumb("pinch")
    clear = (1 - reach) * _thumb("thumb_up") + reach * _thumb("fist")
    angles[:, 4] = (1 - in_the_way) * free + in_the_way * clear
    return angles.reshape(count, 15, 3)


def _noise(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 15 3"]:
    """Sample what no synergy explains: a finger as a whole, and each joint."""
    finger = rng.normal(0, 4, (count, 5, 1, 1)) * [1.0, 0.0, 0.0]
    joint = rng.normal(0, 1, (count, 5, 3, 3)) * [4.0, 3.0, 2.0]
    return (finger + joint).reshape(count, 15, 3)


def _within_limits(angles: Float[np.ndarray, "n 15 3"]) -> Float[np.ndarray, "n 15 3"]:
    """Keep joints within their ranges and neighbouring fingers from crossing."""
    angles = np.clip(angles, _LIMITS[..., 0], _LIMITS[..., 1])
    index, middle, pinky, ring = (angles[:, 3 * finger, 1] for finger in range(4))
    np.maximum(index, middle - _CROSSING, out=index)
    np.minimum(ring, middle + _CROSSING, out=ring)
    np.minimum(pinky, ring + _CROSSING, out=pinky)
    return angles


def _thumb(name: str) -> Float[np.ndarray, "3 3"]:
    return _NAMED_ANGLES[list(_NAMED).index(name), 12:]


def _joint_angles(fingers: tuple[tuple[float | int, ...], ...]) -> Float[np.ndarray, "15 3"]:
    """Write a row of the table of named poses as angles."""
    angles = np.zeros((5, 3, 3))
    for finger, (first, second, third, abduction, *twist) in enumerate(fingers):
        angles[finger, :, 0] = first, second, third
        angles[finger, 0, 1:] = abduction, *(twist or [0])
    return angles.reshape(15, 3)


_NAMED_ANGLES: Final = np.stack([_joint_angles(fingers) for fingers in _NAMED.values()])


def _rotations(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rodrigues' formula."""
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis_angle.shape, 3)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross @ cross


def _axis_angles(rotations: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Invert :func:`_rotations`, for rotations of less than a half turn."""
    skew = rotations - np.swapaxes(rotations, -1, -2)
    sine_axis = np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1) / 2
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    angle = np.arctan2(np.linalg.norm(sine_axis, axis=-1), cosine)[..., None]
    return sine_axis / np.sinc(angle / np.pi)
