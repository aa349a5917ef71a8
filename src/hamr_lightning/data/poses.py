"""Anatomical hand poses: joint limits, coupled joints and named grips, as MANO's 45 axis-angle numbers.

Angles are flexion, abduction and twist of each of the 15 finger joints, about axes fixed to MANO's rest hand (fingers
along -x, palm facing -y, thumb towards +z). Flexion curls towards the palm; abduction moves towards the thumb's side.
"""

from typing import Final

import numpy as np
from jaxtyping import Float

_FINGERS: Final = ("index", "middle", "pinky", "ring", "thumb")

_BONES: Final = {
    "index": (-1.0, 0.0, 0.07),
    "middle": (-1.0, 0.0, -0.03),
    "pinky": (-0.95, 0.0, -0.32),
    "ring": (-0.98, 0.0, -0.19),
    "thumb": (-0.66, -0.25, 0.70),
}
"""Where each finger points at rest."""

_BACKS: Final = {finger: (1.0, 1.0, 1.0) if finger == "thumb" else (0.0, 1.0, 0.0) for finger in _FINGERS}
"""Where each finger's nail faces at rest."""


def _rest_axes() -> Float[np.ndarray, "15 3 3"]:
    """Return, of each joint, the axes of flexion, abduction and twist as rows."""
    frames = []
    for finger in _FINGERS:
        bone = np.asarray(_BONES[finger]) / np.linalg.norm(_BONES[finger])
        flexion = np.cross(_BACKS[finger], bone)
        flexion /= np.linalg.norm(flexion)
        frames += [np.stack([flexion, np.cross(bone, flexion), bone])] * 3
    return np.stack(frames)


_AXES: Final = _rest_axes()

_LIMITS: Final = {
    "index": [[(-20, 88), (-18, 18), (-4, 4)], [(-3, 105), (0, 0), (0, 0)], [(-5, 72), (0, 0), (0, 0)]],
    "middle": [[(-20, 90), (-12, 12), (-3, 3)], [(-3, 108), (0, 0), (0, 0)], [(-5, 74), (0, 0), (0, 0)]],
    "pinky": [[(-22, 90), (-20, 12), (-6, 6)], [(-3, 98), (0, 0), (0, 0)], [(-5, 70), (0, 0), (0, 0)]],
    "ring": [[(-20, 90), (-14, 10), (-4, 4)], [(-3, 106), (0, 0), (0, 0)], [(-5, 72), (0, 0), (0, 0)]],
    "thumb": [[(-20, 40), (-25, 25), (-15, 25)], [(-10, 55), (0, 0), (0, 0)], [(-15, 75), (0, 0), (0, 0)]],
}
"""Range of flexion, abduction and twist of each finger's three joints, degrees."""


def _rotations(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis_angle.shape, 3)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross @ cross


def _axis_angles(rotations: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Return the axis-angle vectors of rotations below a half turn."""
    twice_sine = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    angle = np.arctan2(np.linalg.norm(twice_sine, axis=-1) / 2, cosine)[..., None]
    return twice_sine / (2 * np.sinc(angle / np.pi))


def pose_from_angles(angles: Float[np.ndarray, "n 15 3"]) -> Float[np.ndarray, "n 45"]:
    """Turn flexion, abduction and twist (degrees, joints in MANO's order) into axis-angle poses (radians).

    Twist acts first, then flexion, then abduction.
    """
    vectors = np.radians(angles)[..., None] * _AXES
    flexion, abduction, twist = np.moveaxis(_rotations(vectors), -3, 0)
    return _axis_angles(abduction @ flexion @ twist).reshape(len(angles), 45)
