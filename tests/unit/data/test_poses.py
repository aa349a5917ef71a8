from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hamr_lightning.data.poses import named_poses, pose_from_angles, sample_hand_poses
from hamr_lightning.skeleton import MANO_JOINT_NAMES

JOINT = {name: number for number, name in enumerate(MANO_JOINT_NAMES[1:])}
LONG_FINGERS = ("index", "middle", "ring", "pinky")
FINGER = np.array([-1.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def poses():
    return sample_hand_poses(np.random.default_rng(0), 3000)


def joint(poses, name):
    return poses.reshape(-1, 15, 3)[:, JOINT[name]]


def flexion(poses, name):
    """Degrees of the rotation about an axis across the finger, positive towards the palm."""
    return np.degrees(joint(poses, name)[:, 2])


def angles_of(**joints):
    angles = np.zeros((1, 15, 3))
    for name, values in joints.items():
        angles[0, JOINT[name]] = values
    return angles


def test_a_seed_fixes_the_poses():
    first, second = (sample_hand_poses(np.random.default_rng(7), 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float64
    assert sample_hand_poses(np.random.default_rng(0), 0).shape == (0, 45)


def test_flexion_curls_to_the_palm_and_abduction_goes_to_the_thumb():
    flexed = pose_from_angles(angles_of(middle_1=(60, 0, 0)))[0, 9:12]
    np.testing.assert_allclose(Rotation.from_rotvec(flexed).apply(FINGER), [-0.5, -np.sqrt(3) / 2, 0], atol=0.05)
    abducted = pose_from_angles(angles_of(middle_1=(0, 10, 0)))[0, 9:12]
    np.testing.assert_allclose(abducted, [0, np.radians(10), 0], atol=1e-12)


def test_flexing_the_thumb_brings_it_across_the_palm():
    """At rest the thumb points forwards and outwards, its nail faces up and outwards."""
    rest = np.array([-0.7, -0.3, 0.7])
    flexed = Rotation.from_rotvec(pose_from_angles(angles_of(thumb_1=(40, 0, 0)))[0, 36:39]).apply(rest)
    assert flexed[2] < rest[2] - 0.2
    abducted = Rotation.from_rotvec(pose_from_angles(angles_of(thumb_1=(0, 30, 0)))[0, 36:39]).apply(rest)
    assert abducted[1] < rest[1] - 0.2


def test_twist_then_flexion_then_abduction():
    turn = {
        part: Rotation.from_rotvec(pose_from_angles(angles_of(pinky_1=values))[0, 18:21])
        for part, values in {"flexion": (50, 0, 0), "abduction": (0, -12, 0), "twist": (0, 0, 5)}.items()
    }
    together = Rotation.from_rotvec(pose_from_angles(angles_of(pinky_1=(50, -12, 5)))[0, 18:21])
    expected = turn["abduction"] * turn["flexion"] * turn["twist"]
    assert (together * expected.inv()).magnitude() < 1e-9


@pytest.mark.parametrize("finger", LONG_FINGERS)
def test_middle_and_end_joints_are_hinges_within_their_range(poses, finger):
    for part, greatest in (("2", 105), ("3", 70)):
        rotations = joint(poses, f"{finger}_{part}")
        angle = np.degrees(np.linalg.norm(rotations, axis=1)) * np.sign(rotations[:, 2])
        assert angle.min() > -6
        assert angle.max() < greatest
        axes = (rotations / np.linalg.norm(rotations, axis=1, keepdims=True) * np.sign(rotations[:, 2:]))[
            abs(angle) > 1
        ]
        assert np.ptp(axes, axis=0).max() < 1e-9
        assert axes[0, 2] > 0.9


@pytest.mark.parametrize("finger", LONG_FINGERS)
def test_knuckles_neither_bend_far_back_nor_far_aside(poses, finger):
    pointing = Rotation.from_rotvec(joint(poses, f"{finger}_1")).apply(FINGER)
    straight = pointing[:, 0] < -0.5
    assert pointing[:, 1].max() < np.sin(np.radians(25))
    assert np.abs(pointing[straight, 2]).max() < np.sin(np.radians(25))


@pytest.mark.parametrize("finger", LONG_FINGERS)
def test_end_joints_follow_middle_joints(poses, finger):
    middle, end = flexion(poses, f"{finger}_2"), flexion(poses, f"{finger}_3")
    slope = (middle @ end) / (middle @ middle)
    assert 0.55 < slope < 0.75
    assert np.corrcoef(middle, end)[0, 1] > 0.9


def test_fingers_curl_together_but_not_in_step(poses):
    curl = np.stack([flexion(poses, f"{finger}_2") for finger in LONG_FINGERS])
    correlation = np.corrcoef(curl)
    assert (np.diag(correlation, 1) > 0.5).all()
    assert correlation[0, 3] < np.diag(correlation, 1).min()
    assert (curl.std(axis=1) > 20).all()


def test_straight_neighbours_do_not_cross(poses):
    """At rest neighbouring fingers diverge by 6 degrees or more, so turned that far towards each other they touch."""
    aside = {finger: np.degrees(joint(poses, f"{finger}_1")[:, 1]) for finger in LONG_FINGERS}
    straight = np.all([flexion(poses, f"{finger}_1") < 15 for finger in LONG_FINGERS], axis=0)
    assert straight.sum() > 100
    for inner, outer in pairwise(LONG_FINGERS):
        assert (aside[inner] - aside[outer])[straight].min() > -8


def test_poses_differ(poses):
    spread = np.linalg.svd(poses - poses.mean(axis=0), compute_uv=False) / np.sqrt(len(poses))
    assert spread[0] > 1
    assert (spread > 0.02).sum() >= 20


def test_named_poses_are_what_their_names_say():
    named = named_poses()
    assert {"flat", "fist", "pinch", "ok", "point", "spread", "grasp"} <= set(named)
    np.testing.assert_array_equal(named["flat"], np.zeros(45))
    curl = {
        name: [np.degrees(pose.reshape(15, 3)[JOINT[f"{f}_2"], 2]) for f in LONG_FINGERS]
        for name, pose in named.items()
    }
    assert min(curl["fist"]) > 80
    assert curl["point"][0] < 10 < 80 < min(curl["point"][1:])
    assert max(curl["spread"]) < 5
