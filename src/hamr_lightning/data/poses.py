"""Anatomical hand poses: joint limits, coupled joints and named grips, as MANO's 45 axis-angle numbers.

A pose is made from angles: flexion, abduction and twist (degrees) of each of the 15 finger joints in MANO's order,
about axes fixed to MANO's rest hand (fingers along -x, palm facing -y, thumb towards +z). Flexion curls towards the
palm, abduction moves towards the thumb's side. Limits are within the clinical ranges of motion.
"""

from typing import Final, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int

from hamr_lightning.compiled import compiled
from hamr_lightning.data.turns import multiply, rotation_matrix, rotation_vector

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

_THUMB_POSES: Final = ("spread", "pinch", "thumb_up", "fist")
"""Where the thumb is while the fingers are straight, and where while they are curled: aside, and across."""

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
    return _pose_from_angles(np.radians(angles), _AXES)


def named_poses() -> dict[str, Float[np.ndarray, "45"]]:
    """Return poses by name, radians: flat, spread, relaxed, fist, thumb_up, point, pinch, ok, grasp and more."""
    return dict(zip(_NAMED, pose_from_angles(_NAMED_ANGLES), strict=True))


def sample_hand_poses(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 45"]:
    """Sample poses within the joint limits: half around the named poses, half from freely curling fingers.

    Radians, full rotations (the hand model's mean pose contained). Fingers curl together to a varying degree, a
    finger's last joint bends about two thirds as far as the one before it, bent fingers do not spread, neighbours do
    not cross, and the thumb keeps out of the way of curled fingers.
    """
    draws = _Draws(
        named=rng.random(count) < 0.5,
        pair=rng.integers(len(_NAMED), size=(2, count)),
        share=rng.beta(0.3, 0.3, count),
        together=rng.random(count),
        common=rng.beta(0.8, 1.0, count),
        single=rng.beta(0.5, 0.7, (count, 4)),
        bend=rng.normal(0, 0.15, (2, count, 4)),
        spread=rng.normal(0, 1, count),
        reach=rng.random(count),
        finger=rng.normal(0, 4, (count, 5)),
        joint=rng.normal(0, 1, (count, 15, 3)),
    )
    return _pose_from_angles(np.radians(_sample_angles(draws, _TABLES)), _AXES)


class _Draws(NamedTuple):
    """Random numbers for so many poses."""

    named: Bool[np.ndarray, "n"]
    pair: Int[np.ndarray, "2 n"]
    share: Float[np.ndarray, "n"]
    together: Float[np.ndarray, "n"]
    common: Float[np.ndarray, "n"]
    single: Float[np.ndarray, "n 4"]
    bend: Float[np.ndarray, "2 n 4"]
    spread: Float[np.ndarray, "n"]
    reach: Float[np.ndarray, "n"]
    finger: Float[np.ndarray, "n 5"]
    joint: Float[np.ndarray, "n 15 3"]


class _Tables(NamedTuple):
    named: Float[np.ndarray, "p 15 3"]
    thumbs: Float[np.ndarray, "4 3 3"]
    limits: Float[np.ndarray, "15 3 2"]
    enslaving: Float[np.ndarray, "4 4"]
    spreading: Float[np.ndarray, "4"]


def _joint_angles(fingers: tuple[tuple[float | int, ...], ...]) -> Float[np.ndarray, "15 3"]:
    """Write a row of the table of named poses as angles."""
    angles = np.zeros((5, 3, 3))
    for finger, (first, second, third, abduction, *twist) in enumerate(fingers):
        angles[finger, :, 0] = first, second, third
        angles[finger, 0, 1:] = abduction, *(twist or [0])
    return angles.reshape(15, 3)


_NAMED_ANGLES: Final = np.stack([_joint_angles(fingers) for fingers in _NAMED.values()])

_TABLES: Final = _Tables(
    named=_NAMED_ANGLES,
    thumbs=np.stack([_NAMED_ANGLES[list(_NAMED).index(name), 12:] for name in _THUMB_POSES]),
    limits=_LIMITS,
    enslaving=_ENSLAVING,
    spreading=_SPREADING,
)


@compiled()
@no_type_check
def _sample_angles(draws, tables):
    angles = np.zeros((len(draws.named), 15, 3))
    for i in range(len(angles)):
        if draws.named[i]:
            first, second = tables.named[draws.pair[0, i]], tables.named[draws.pair[1, i]]
            angles[i] = (1 - draws.share[i]) * first + draws.share[i] * second
        else:
            _curl(angles[i], i, draws, tables)
        # What no synergy explains: of a finger's flexion as a whole, and of each joint.
        for joint in range(15):
            angles[i, joint, 0] += draws.finger[i, joint // 3] + 4 * draws.joint[i, joint, 0]
            angles[i, joint, 1] += 3 * draws.joint[i, joint, 1]
            angles[i, joint, 2] += 2 * draws.joint[i, joint, 2]
        _keep_within(angles[i], tables.limits)
    return angles


@compiled()
@no_type_check
def _curl(angles, i, draws, tables):
    """Curl the fingers, more or less together, and let the thumb reach across more or less far."""
    together, reach = draws.together[i], draws.reach[i]
    curls = np.full(4, together * draws.common[i])
    for finger in range(4):
        curls += (1 - together) * draws.single[i, finger] * tables.enslaving[finger]
    for finger in range(4):
        knuckle = min(max(curls[finger] + draws.bend[0, i, finger], 0), 1)
        middle = min(max(curls[finger] + draws.bend[1, i, finger], 0), 1)
        angles[3 * finger, 0] = 84 * knuckle
        angles[3 * finger + 1, 0] = 100 * middle
        angles[3 * finger + 2, 0] = 64 * middle
        angles[3 * finger, 1] = draws.spread[i] * tables.spreading[finger] * (1 - knuckle)
    in_the_way = min(max(curls[0] + curls[1] - 0.8, 0), 1)
    aside, pinching, upright, over_fist = tables.thumbs
    free = (1 - reach) * aside + reach * pinching
    clear = (1 - reach) * upright + reach * over_fist
    angles[12:] = (1 - in_the_way) * free + in_the_way * clear


@compiled()
@no_type_check
def _keep_within(angles, limits):
    """Keep joints within their ranges and neighbouring fingers from crossing."""
    for joint in range(15):
        for part in range(3):
            angles[joint, part] = min(max(angles[joint, part], limits[joint, part, 0]), limits[joint, part, 1])
    index, middle, pinky, ring = 0, 3, 6, 9
    angles[index, 1] = max(angles[index, 1], angles[middle, 1] - _CROSSING)
    angles[ring, 1] = min(angles[ring, 1], angles[middle, 1] + _CROSSING)
    angles[pinky, 1] = min(angles[pinky, 1], angles[ring, 1] + _CROSSING)


@compiled()
@no_type_check
def _pose_from_angles(angles, axes):
    poses = np.empty((len(angles), 45))
    for i in range(len(angles)):
        for joint in range(15):
            flexion = rotation_matrix(angles[i, joint, 0] * axes[joint, 0])
            abduction = rotation_matrix(angles[i, joint, 1] * axes[joint, 1])
            twist = rotation_matrix(angles[i, joint, 2] * axes[joint, 2])
            poses[i, 3 * joint : 3 * joint + 3] = rotation_vector(multiply(multiply(abduction, flexion), twist))
    return poses
