import math

import numpy as np
import pytest
import torch

from hamr_lightning.losses.geo import GeometricLoss
from hamr_lightning.skeleton import FINGERS

FOUR = ("index", "middle", "ring", "pinky")


def hand_of(points, fingers=FOUR):
    """A hand whose named fingers are the four points, and whose other joints are 0."""
    joints = torch.zeros(1, 21, 3, dtype=points.dtype)
    for finger in fingers:
        joints[:, list(FINGERS[finger])] = points
    return joints


def finger_in_a_plane(first, second, lengths=(0.045, 0.03, 0.02)):
    """Bend by these angles at its two joints."""
    directions = np.cumsum([0.3, first, second])
    bones = [length * np.array([math.cos(a), math.sin(a), 0]) for length, a in zip(lengths, directions, strict=True)]
    return torch.tensor(np.cumsum([[0.09, 0.01, 0.02], *bones], axis=0))


def penalty(joints, make_prediction, make_batch):
    return GeometricLoss()(make_prediction(len(joints), joints_3d=joints), make_batch(len(joints)))


def test_it_is_eqs_6_and_7_tip_to_palm_on_unit_bones(make_prediction, make_batch):
    joints = make_prediction(3).joints_3d.detach()
    expected = []
    for sample in joints.double().numpy():
        total = 0.0
        for finger in FOUR:
            a, b, c, d = sample[list(reversed(FINGERS[finger]))]
            ab, bc, cd = ((p - q) / np.linalg.norm(p - q) for p, q in ((a, b), (b, c), (c, d)))
            total += abs(np.dot(np.cross(ab, bc), cd)) + max(0, -np.dot(np.cross(ab, bc), np.cross(bc, cd)))
        expected.append(total / 4)
    np.testing.assert_allclose(penalty(joints, make_prediction, make_batch), expected, rtol=1e-4)


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.3), (-0.5, -0.3), (1.5, 0), (0, 0)])
def test_a_finger_that_bends_one_way_in_a_plane_is_free(first, second, make_prediction, make_batch):
    joints = hand_of(finger_in_a_plane(first, second))
    assert penalty(joints, make_prediction, make_batch).item() == pytest.approx(0, abs=1e-12)


def test_a_finger_that_bends_back_costs_the_product_of_the_sines(make_prediction, make_batch):
    joints = hand_of(finger_in_a_plane(0.5, -0.3), fingers=("ring",))
    expected = math.sin(0.5) * math.sin(0.3) / 4
    assert penalty(joints, make_prediction, make_batch).item() == pytest.approx(expected, rel=1e-6)


def test_a_finger_s_length_does_not_matter_and_the_thumb_s_shape_neither(make_prediction, make_batch):
    joints = make_prediction(3).joints_3d.detach().clone()
    before = penalty(joints, make_prediction, make_batch)
    joints[:, list(FINGERS["thumb"])] = 0.3
    torch.testing.assert_close(penalty(0.5 * joints, make_prediction, make_batch), before)


def test_gradients_agree_with_finite_differences(make_prediction, make_batch):
    joints = make_prediction(2).joints_3d.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: penalty(x, make_prediction, make_batch), joints)


@pytest.mark.parametrize(
    "points",
    [finger_in_a_plane(0, 0), torch.zeros(4, 3), finger_in_a_plane(0.4, 0.2, (0.04, 0, 0.02)), 1e-7 * torch.eye(4, 3)],
    ids=["straight", "a point", "a bone of length 0", "a tenth of a micrometre"],
)
def test_degenerate_fingers_have_bounded_gradients(points, make_prediction, make_batch):
    joints = hand_of(points).float().requires_grad_()
    value = penalty(joints, make_prediction, make_batch)
    value.sum().backward()
    assert 0 <= value.item() <= 2
    assert joints.grad.abs().max() < 1e4
