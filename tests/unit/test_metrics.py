from itertools import pairwise

import numpy as np
import pytest
import torch

from hamr_lightning.metrics import PCKAUC, MeanIoU, MeanJointError, joint_errors_mm, mask_iou

GENERATOR = torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def joints():
    """Predicted, annotated (both with a root that is not at 0) and valid joints of 12 samples."""
    annotated = torch.randn(12, 21, 3, generator=GENERATOR) * 0.05
    predicted = annotated + torch.randn(12, 21, 3, generator=GENERATOR) * 0.02
    return predicted, annotated, torch.rand(12, 21, generator=GENERATOR) > 0.2


@pytest.fixture(scope="module")
def masks():
    annotated = (torch.rand(12, 16, 16, generator=GENERATOR) > 0.4).float()
    predicted = torch.rand(12, 8, 8, generator=GENERATOR)
    return predicted, annotated, torch.rand(12, generator=GENERATOR) > 0.3


def oracle_errors_mm(predicted, annotated):
    predicted, annotated = predicted.double().numpy(), annotated.double().numpy()
    return 1000 * np.sqrt((((predicted - predicted[:, :1]) - (annotated - annotated[:, :1])) ** 2).sum(-1))


def test_errors_are_distances_with_aligned_roots(joints):
    predicted, annotated, _ = joints
    errors = joint_errors_mm(predicted, annotated)
    np.testing.assert_allclose(errors, oracle_errors_mm(predicted, annotated), atol=1e-3)
    assert errors[:, 0].tolist() == [0] * 12


def test_mean_joint_error_is_of_all_valid_joints(joints):
    metric = MeanJointError()
    metric.update(*joints)
    expected = oracle_errors_mm(*joints[:2])[joints[2].numpy()].mean()
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


def test_auc_is_that_of_the_curve_over_the_thresholds(joints):
    metric = PCKAUC(start_mm=10.0, stop_mm=60.0, steps=11)
    metric.update(*joints)
    errors = oracle_errors_mm(*joints[:2])[joints[2].numpy()]
    pck = [np.mean(errors <= threshold) for threshold in range(10, 61, 5)]
    expected = sum((low + high) / 2 * 5 for low, high in pairwise(pck)) / 50
    assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1), (0.019, 1), (0.051, 0)])
def test_auc_of_equal_errors(error, expected):
    annotated = torch.zeros(1, 21, 3)
    predicted = annotated.clone()
    predicted[:, 1:, 0] = error
    valid = torch.ones(1, 21, dtype=torch.bool)
    valid[:, 0] = False
    metric = PCKAUC()
    metric.update(predicted, annotated, valid)
    assert metric.compute() == expected


def test_iou_is_at_the_silhouette_s_resolution(masks):
    predicted, annotated, _ = masks
    coarse = annotated.numpy().reshape(12, 8, 2, 8, 2).mean(axis=(2, 4)) > 0.5
    covered = predicted.numpy() > 0.5
    expected = (coarse & covered).sum((1, 2)) / (coarse | covered).sum((1, 2))
    np.testing.assert_allclose(mask_iou(predicted, annotated), expected, rtol=1e-6)


def test_iou_of_two_empty_masks_is_1_and_of_one_0():
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    assert [mask_iou(a, b).item() for a, b in ((empty, empty), (empty, full), (full, empty))] == [1, 0, 0]


def test_mean_iou_is_of_the_valid_samples(masks):
    metric = MeanIoU()
    metric.update(*masks)
    expected = mask_iou(*masks[:2])[masks[2]].mean()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("metric", "data"), [(MeanJointError, "joints"), (PCKAUC, "joints"), (MeanIoU, "masks")])
def test_batches_and_order_do_not_matter(metric, data, request):
    arguments = request.getfixturevalue(data)
    at_once, piecemeal = metric(), metric()
    at_once.update(*arguments)
    order = torch.randperm(12, generator=GENERATOR)
    for part in order.split([1, 7, 4]):
        piecemeal.update(*(argument[part] for argument in arguments))
    torch.testing.assert_close(piecemeal.compute(), at_once.compute())


@pytest.mark.parametrize(("metric", "data"), [(MeanJointError, "joints"), (PCKAUC, "joints"), (MeanIoU, "masks")])
def test_without_valid_annotation_there_is_no_figure(metric, data, request):
    predicted, annotated, valid = request.getfixturevalue(data)
    measured = metric()
    measured.update(predicted, annotated, torch.zeros_like(valid))
    assert measured.compute().isnan()


@pytest.mark.parametrize(("metric", "data"), [(MeanJointError, "joints"), (PCKAUC, "joints"), (MeanIoU, "masks")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_refused(metric, data, value, request):
    predicted, *rest = request.getfixturevalue(data)
    predicted = predicted.clone()
    predicted[3, 2, 1] = value
    with pytest.raises(ValueError, match=f"1 of {predicted.numel()} predicted numbers are not finite"):
        metric().update(predicted, *rest)


@pytest.mark.parametrize("arguments", [(-1.0, 50.0, 20), (50.0, 20.0, 20), (20.0, 50.0, 1)])
def test_thresholds_that_make_no_curve_are_refused(arguments):
    with pytest.raises(ValueError, match="needs 0 <= start_mm < stop_mm and steps of at least 2"):
        PCKAUC(*arguments)
