"""The metrics against FreiHAND's scorer (github.com/lmb-freiburg/freihand, eval.py), whose definitions are told anew.

It takes one sample after the other in metres: a Procrustes alignment, then for each key point the mean error and the
area under its PCK from 0 to 50 mm at 100 thresholds, and the averages of those over the key points; vertices likewise.
"""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree

from hamr_lightning.metrics import PCKAUC, FScore, MeanJointError, MeanVertexError

SAMPLES = 30


def official_alignment(annotated, predicted):
    shape_a, shape_p = annotated - annotated.mean(0), predicted - predicted.mean(0)
    size_a, size_p = np.linalg.norm(shape_a) + 1e-8, np.linalg.norm(shape_p) + 1e-8
    rotation, share = orthogonal_procrustes(shape_a / size_a, shape_p / size_p)
    return shape_p / size_p @ rotation.T * share * size_a + annotated.mean(0)


def official_figures(annotated, predicted):
    """Return mean error in mm and AUC."""
    distances = np.linalg.norm(annotated - predicted, axis=2)
    thresholds = np.linspace(0, 0.05, 100)
    areas = []
    for key_point in distances.T:
        pck = np.array([np.mean(key_point <= threshold) for threshold in thresholds])
        areas.append(((pck[:-1] + pck[1:]) / 2).mean())
    return 1000 * np.mean(distances.mean(axis=0)), np.mean(areas)


def official_f_score(annotated, predicted, threshold):
    scores = []
    for a, p in zip(annotated, predicted, strict=True):
        matched, close = (cKDTree(y).query(x)[0] < threshold for x, y in ((a, p), (p, a)))
        total = matched.mean() + close.mean()
        scores.append(2 * matched.mean() * close.mean() / total if total > 0 else 0)
    return np.mean(scores)


@pytest.fixture(scope="module")
def data():
    """Root-relative joints and vertices in float32, so wrong that errors lie on both sides of the thresholds."""
    rng = np.random.default_rng(1)
    sets = []
    for count in (21, 778):
        annotated = rng.normal(scale=0.04, size=(SAMPLES, count, 3))
        predicted = 1.1 * annotated + rng.normal(scale=rng.uniform(0.002, 0.02, (SAMPLES, 1, 1)), size=annotated.shape)
        sets.append([points - points[:, :1] for points in (predicted, annotated)])
    return [[points.astype(np.float32) for points in pair] for pair in sets]


def run(metric, predicted, annotated, valid):
    for part in torch.arange(SAMPLES).split(7):
        metric.update(torch.from_numpy(predicted[part]), torch.from_numpy(annotated[part]), valid[part])
    return metric.compute().item()


@pytest.mark.parametrize("alignment", ["root", "procrustes"])
def test_key_points(data, alignment):
    predicted, annotated = data[0]
    valid = torch.ones(SAMPLES, 21, dtype=torch.bool)
    error = run(MeanJointError(alignment), predicted, annotated, valid)
    auc = run(PCKAUC(0.0, 50.0, 100, alignment), predicted, annotated, valid)
    predicted, annotated = predicted.astype(float), annotated.astype(float)
    if alignment == "procrustes":
        predicted = np.stack([official_alignment(a, p) for a, p in zip(annotated, predicted, strict=True)])
    assert (error, auc) == pytest.approx(official_figures(annotated, predicted), rel=1e-6)
    assert 0.4 < auc < 0.9


@pytest.mark.parametrize("alignment", ["none", "procrustes"])
def test_vertices(data, alignment):
    predicted, annotated = data[1]
    valid = torch.ones(SAMPLES, dtype=torch.bool)
    error = run(MeanVertexError(alignment), predicted, annotated, valid)
    scores = [run(FScore(threshold, alignment), predicted, annotated, valid) for threshold in (5.0, 15.0)]
    predicted, annotated = predicted.astype(float), annotated.astype(float)
    if alignment == "procrustes":
        predicted = np.stack([official_alignment(a, p) for a, p in zip(annotated, predicted, strict=True)])
    assert error == pytest.approx(official_figures(annotated, predicted)[0], rel=1e-6)
    assert scores == pytest.approx([official_f_score(annotated, predicted, t) for t in (0.005, 0.015)], rel=1e-6)
    assert 0.1 < scores[0] < scores[1] < 1


def test_key_points_with_fewer_annotations_weigh_less(data):
    """Where the definitions part: all joints that count make one mean here, those of each key point one there."""
    predicted, annotated = data[0]
    valid = torch.ones(SAMPLES, 21, dtype=torch.bool)
    valid[10:, 4] = False
    error = run(MeanJointError("root"), predicted, annotated, valid)
    distances = 1000 * np.linalg.norm(predicted.astype(float) - annotated.astype(float), axis=2)
    assert error == pytest.approx(distances[valid.numpy()].mean(), rel=1e-6)
    by_key_point = np.mean([column[counts].mean() for column, counts in zip(distances.T, valid.numpy().T, strict=True)])
    assert abs(error - by_key_point) > 1e-3
