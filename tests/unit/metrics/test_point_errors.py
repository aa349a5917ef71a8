from itertools import pairwise

import numpy as np
import pytest
import torch

from hamr_lightning.metrics import (
    area_under_curve,
    camera_errors,
    f_score,
    mask_iou,
    pck_curve,
    point_errors_2d,
    point_errors_mm,
)


def test_errors_are_in_millimetres_and_of_what_counts(joints):
    predicted, annotated, valid = joints
    errors, counts = point_errors_mm(predicted, annotated, valid, "root")
    p, a = predicted.double().numpy(), annotated.double().numpy()
    for sample in range(12):
        for joint in range(21):
            counted = bool(valid[sample, 0] and valid[sample, joint])
            difference = (p[sample, joint] - p[sample, 0]) - (a[sample, joint] - a[sample, 0])
            expected = 1000 * np.sqrt((difference**2).sum()) if counted else 0
            assert errors[sample, joint].item() == pytest.approx(expected, rel=1e-6)
            assert counts[sample, joint].item() == counted
    assert errors.dtype == torch.float32


def test_an_error_is_exact_far_from_the_origin():
    annotated = torch.full((1, 21, 3), 1000.0)
    predicted = annotated + 2**-13
    errors, _ = point_errors_mm(predicted, annotated, torch.ones(1, 21, dtype=torch.bool), "none")
    np.testing.assert_allclose(errors, 1000 * 2**-13 * np.sqrt(3), rtol=1e-7)


def test_errors_in_the_image_are_in_the_unit_given():
    predicted = torch.tensor([[[3.0, 4.0], [-1.0, 0.5]]])
    annotated = torch.tensor([[[0.0, 0.0], [-1.0, 0.0]]])
    assert point_errors_2d(predicted, annotated).tolist() == [[5.0, 0.5]]


def test_a_curve_counts_errors_up_to_each_threshold():
    errors, thresholds = torch.tensor([[0.0, 1.0, 1.5], [2.0, 9.0, 1.0]]), torch.tensor([0.0, 1.0, 1.5, 2.0])
    counts = torch.tensor([[True, True, True], [True, False, True]])
    assert pck_curve(errors, counts, thresholds).tolist() == pytest.approx([1 / 5, 3 / 5, 4 / 5, 1])
    assert pck_curve(errors, ~counts, thresholds).tolist() == [0] * 4
    assert pck_curve(errors, torch.zeros_like(counts), thresholds).isnan().all()


def test_the_area_is_the_trapezoids_over_the_range():
    curve, thresholds = torch.tensor([0.1, 0.4, 0.9]), torch.tensor([20.0, 30.0, 50.0])
    assert area_under_curve(curve, thresholds).item() == pytest.approx((10 * 0.25 + 20 * 0.65) / 30, rel=1e-6)


@pytest.mark.parametrize(("start", "stop", "steps"), [(20, 50, 20), (0, 50, 100), (0, 30, 20), (0.1, 0.7, 61)])
def test_the_area_under_a_full_curve_is_1(start, stop, steps):
    assert area_under_curve(torch.ones(steps), torch.linspace(start, stop, steps)) == 1


def f_score_by_loops(predicted, annotated, threshold_mm):
    distances = 1000 * np.linalg.norm(predicted[:, None] - annotated[None], axis=-1)
    near = distances < threshold_mm
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_the_f_score_is_the_harmonic_mean_of_precision_and_recall():
    generator = torch.Generator().manual_seed(0)
    annotated = torch.rand(11, 50, 3, generator=generator) * 0.03
    predicted = torch.rand(11, 40, 3, generator=generator) * 0.03
    predicted[:, :10] += 1
    scores = f_score(predicted, annotated, 5.0)
    expected = [f_score_by_loops(p, a, 5.0) for p, a in zip(predicted.numpy(), annotated.numpy(), strict=True)]
    assert 0.2 < min(expected) < max(expected) < 0.8
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_the_f_score_of_the_truth_is_1_and_of_what_is_far_0():
    points = torch.rand(2, 30, 3)
    assert f_score(points, points, 5.0).tolist() == [1, 1]
    assert f_score(points, points + 9, 5.0).tolist() == [0, 0]


def test_vertices_at_the_threshold_are_too_far():
    annotated = torch.zeros(1, 1, 3, dtype=torch.double)
    predicted = annotated + torch.tensor([0.0, 0.0, 0.0078125])
    assert f_score(predicted, annotated, 7.8125).item() == 0
    assert f_score(predicted, annotated, 7.9).item() == 1


def test_camera_errors():
    predicted = torch.tensor([[9.0, 0.013, -0.016], [5.0, 1.0, 1.0], [5.0, 1.0, 1.0], [-10.0, 0.0, 0.0]])
    annotated = torch.tensor([[10.0, 0.01, -0.02], [torch.nan] * 3, [0.0, 1.0, 1.0], [10.0, 0.0, 0.0]])
    scale, translation_mm, counts = camera_errors(predicted, annotated)
    assert scale.tolist() == pytest.approx([0.1, 0, 0, 2], rel=1e-6)
    assert translation_mm.tolist() == pytest.approx([5, 0, 0, 0], rel=1e-6)
    assert counts.tolist() == [True, False, False, True]


def test_iou_is_at_the_silhouette_s_resolution(masks):
    predicted, annotated, _ = masks
    coarse = annotated.numpy().reshape(12, 8, 2, 8, 2).mean(axis=(2, 4)) > 0.5
    covered = predicted.numpy() > 0.5
    expected = (coarse & covered).sum((1, 2)) / (coarse | covered).sum((1, 2))
    np.testing.assert_allclose(mask_iou(predicted, annotated), expected, rtol=1e-6)


def test_iou_of_two_empty_masks_is_1_and_of_one_0():
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    assert [mask_iou(a, b).item() for a, b in ((empty, empty), (empty, full), (full, empty))] == [1, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (point_errors_2d, [(2, 5, 2)] * 2),
        (lambda p, a: f_score(p, a, 5.0), [(2, 5, 3)] * 2),
        (camera_errors, [(2, 3)] * 2),
        (mask_iou, [(2, 4, 4), (2, 8, 8)]),
    ],
)
def test_a_prediction_that_is_not_finite_is_refused(function, shapes, value):
    predicted, annotated = (torch.ones(shape) for shape in shapes)
    predicted[1, 1] = value
    with pytest.raises(ValueError, match=f"{predicted[1, 1].numel()} of {predicted.numel()} predicted numbers are not"):
        function(predicted, annotated)


def test_the_hand_computed_area_of_random_errors():
    errors = torch.rand(40, 21, generator=torch.Generator().manual_seed(2)) * 60
    counts = torch.rand(40, 21, generator=torch.Generator().manual_seed(3)) > 0.3
    thresholds = torch.linspace(20, 50, 7)
    pck = [np.mean(errors.numpy()[counts.numpy()] <= threshold) for threshold in range(20, 51, 5)]
    expected = sum((low + high) / 2 * 5 for low, high in pairwise(pck)) / 30
    assert area_under_curve(pck_curve(errors, counts, thresholds), thresholds).item() == pytest.approx(
        expected, rel=1e-6
    )
