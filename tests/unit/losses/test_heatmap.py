import math

import numpy as np
import pytest
import torch

from hamr_lightning.losses.heatmap import HeatmapLoss, gaussian_heatmaps


def test_a_gaussian_peaks_with_1_at_the_joint_s_exact_place():
    centre_of_pixel = (2 * 20 + 1) / 64 - 1, (2 * 50 + 1) / 64 - 1
    (heatmap,) = gaussian_heatmaps(torch.tensor([[centre_of_pixel]]), 64, 64, variance=2.5)[0].double().numpy()
    assert heatmap[50, 20] == pytest.approx(1)
    assert heatmap[50, 21] == pytest.approx(math.exp(-1 / 5), rel=1e-5)
    assert heatmap[52, 19] == pytest.approx(math.exp(-(4 + 1) / 5), rel=1e-5)
    assert heatmap.sum() == pytest.approx(2 * math.pi * 2.5, rel=1e-5)


def test_a_gaussian_between_pixels_keeps_its_mean_and_variance():
    joint = torch.tensor([0.123, -0.321])
    (heatmap,) = gaussian_heatmaps(joint[None, None], 64, 64, variance=2.5)[0].double().numpy()
    centres = (2 * np.arange(64) + 1) / 64 - 1
    share = heatmap / heatmap.sum()
    mean_x, mean_y = (share.sum(0) * centres).sum(), (share.sum(1) * centres).sum()
    np.testing.assert_allclose([mean_x, mean_y], joint, atol=1e-6)
    variance_px = (share.sum(0) * (centres - mean_x) ** 2).sum() * 32**2
    assert variance_px == pytest.approx(2.5, rel=1e-4)


def test_it_is_the_mean_square_over_pixels_and_valid_joints_summed_over_stacks(make_prediction, make_batch):
    valid = torch.rand(3, 21, generator=torch.Generator().manual_seed(5)) > 0.3
    prediction, batch = make_prediction(3), make_batch(3, joints_2d_valid=valid)
    heatmaps, joints = prediction.heatmaps.detach().double().numpy(), batch.joints_2d.double().numpy()
    centres = (2 * np.arange(16) + 1) / 16 - 1
    expected = np.zeros(3)
    for sample in range(3):
        for stack in range(2):
            squares = []
            for joint in np.flatnonzero(valid[sample]):
                x, y = joints[sample, joint]
                distance_px = np.hypot(centres[None, :] - x, centres[:, None] - y) * 8
                target = np.exp(-(distance_px**2) / (2 * 1.5))
                squares.append(np.mean((heatmaps[sample, stack, joint] - target) ** 2))
            expected[sample] += np.mean(squares)
    np.testing.assert_allclose(HeatmapLoss(variance=1.5)(prediction, batch).detach(), expected, rtol=1e-4)


def test_only_the_first_21_maps_are_supervised(make_prediction, make_batch):
    prediction = make_prediction()
    HeatmapLoss()(prediction, make_batch()).sum().backward()
    supervised = prediction.heatmaps.grad.abs().sum(dim=(0, 1, 3, 4)) > 0
    assert supervised.tolist() == [True] * 21 + [False] * 3


def test_a_joint_far_outside_asks_for_an_empty_map(make_prediction, make_batch):
    empty = make_prediction(heatmaps=torch.zeros(2, 2, 24, 16, 16))
    assert HeatmapLoss()(empty, make_batch(joints_2d=torch.full((2, 21, 2), 9.0))).tolist() == [0, 0]


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan])
def test_a_variance_that_draws_no_gaussian_is_refused(variance):
    with pytest.raises(ValueError, match="variance must be finite and above 0"):
        HeatmapLoss(variance=variance)
