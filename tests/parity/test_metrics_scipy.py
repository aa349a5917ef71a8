"""Alignment and F-score against SciPy, in float64."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree, procrustes
from scipy.spatial.transform import Rotation

from hamr_lightning.metrics import f_score, point_errors_mm


def aligned_errors_mm(predicted, annotated):
    """Return errors after the similarity without reflection that SciPy's rotation gives."""
    p, a = predicted - predicted.mean(0), annotated - annotated.mean(0)
    turned = Rotation.align_vectors(a, p)[0].apply(p)
    scale = (turned * a).sum() / (p * p).sum()
    return 1000 * np.linalg.norm(scale * turned - a, axis=1)


def random_points(count, noise):
    """Return annotated points, and predictions that are turned, moved, scaled and disturbed, as float32 holds them."""
    rng = np.random.default_rng(count)
    annotated = rng.normal(scale=0.05, size=(24, count, 3))
    turned = np.stack([Rotation.random(random_state=i).apply(points) for i, points in enumerate(annotated)])
    predicted = rng.uniform(0.2, 4, (24, 1, 1)) * (turned + rng.normal(size=(24, 1, 3)))
    predicted += rng.normal(scale=noise, size=predicted.shape)
    return predicted.astype(np.float32), annotated.astype(np.float32)


@pytest.mark.parametrize("count", [4, 21, 778])
@pytest.mark.parametrize("noise", [0.001, 0.03, 5.0])
def test_procrustes_errors(count, noise):
    predicted, annotated = random_points(count, noise)
    valid = torch.ones(24, count, dtype=torch.bool)
    errors, counts = point_errors_mm(torch.from_numpy(predicted), torch.from_numpy(annotated), valid, "procrustes")
    assert counts.all()
    expected = [aligned_errors_mm(p, a) for p, a in zip(predicted.astype(float), annotated.astype(float), strict=True)]
    np.testing.assert_allclose(errors, expected, rtol=1e-6, atol=1e-6)


def test_procrustes_errors_of_mirrored_hands():
    predicted, annotated = random_points(21, 0.01)
    predicted[..., 0] *= -1
    valid = torch.ones(24, 21, dtype=torch.bool)
    errors, _ = point_errors_mm(torch.from_numpy(predicted), torch.from_numpy(annotated), valid, "procrustes")
    expected = [aligned_errors_mm(p, a) for p, a in zip(predicted.astype(float), annotated.astype(float), strict=True)]
    assert np.mean(expected) > 10
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


def test_procrustes_errors_of_the_valid_points():
    predicted, annotated = random_points(21, 0.02)
    valid = np.random.default_rng(1).random((24, 21)) > 0.4
    annotated[~valid] = 1e30
    errors, counts = point_errors_mm(
        torch.from_numpy(predicted), torch.from_numpy(annotated), torch.from_numpy(valid), "procrustes"
    )
    assert torch.equal(counts, torch.from_numpy(valid))
    for sample in range(24):
        points = (values[sample, valid[sample]].astype(float) for values in (predicted, annotated))
        np.testing.assert_allclose(errors[sample, valid[sample]], aligned_errors_mm(*points), rtol=1e-6)


def test_procrustes_onto_a_line():
    """The rotation about the line is open there; the sum of squares is not."""
    predicted, annotated = random_points(21, 0.02)
    annotated[..., 1:] = 0
    valid = torch.ones(24, 21, dtype=torch.bool)
    errors, _ = point_errors_mm(torch.from_numpy(predicted), torch.from_numpy(annotated), valid, "procrustes")
    for sample in range(24):
        disparity = procrustes(annotated[sample].astype(float), predicted[sample].astype(float))[2]
        centred = 1000 * (annotated[sample].astype(float) - annotated[sample].astype(float).mean(0))
        expected = disparity * (centred**2).sum()
        assert errors[sample].double().square().sum().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("threshold_mm", [5.0, 15.0])
def test_f_score_of_meshes(threshold_mm):
    rng = np.random.default_rng(0)
    annotated = rng.normal(scale=0.03, size=(9, 778, 3)).astype(np.float32)
    predicted = annotated + rng.normal(scale=0.006, size=annotated.shape).astype(np.float32)
    scores = f_score(torch.from_numpy(predicted), torch.from_numpy(annotated), threshold_mm)
    for score, p, a in zip(scores.tolist(), predicted.astype(float), annotated.astype(float), strict=True):
        precision, recall = (
            np.mean(cKDTree(target).query(points)[0] < threshold_mm / 1000) for points, target in ((p, a), (a, p))
        )
        assert 0.05 < precision < 1
        assert score == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-6)
