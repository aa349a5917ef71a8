"""pred.json, scored as FreiHAND's and HO-3D's published scorers do, has the figures of metrics.json.

Told anew from github.com/lmb-freiburg/freihand (eval.py, utils/eval_util.py) and github.com/shreyashampali/ho3d
(eval.py): one sample after the other, in metres, against the published annotation files; for each key point the mean
error and the area under its PCK from 0 to 50 mm at 100 thresholds, and the averages of those over the key points.
Both scorers' Procrustes alignment allows a reflection, which the predictions here, near the truth, do not ask for.
"""

import json

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree

from evaluated_hands import batches_of, make_prediction
from hamr_lightning.data.freihand import FreihandDataset
from hamr_lightning.data.ho3d import Ho3dDataset
from hamr_lightning.evaluation import PROTOCOLS, evaluate
from hamr_lightning.evaluation.report import write_report
from hamr_lightning.hand_model import HandModel
from layouts.freihand import write_freihand
from layouts.ho3d import write_ho3d

MIDDLE_1 = 4
"""In MANO's order, HO-3D's."""


@pytest.fixture
def scored(tmp_path):
    """Return, of a protocol: metrics.json, and the published and the predicted joints and vertices."""

    def score(name):
        root, hand, report = tmp_path / name, tmp_path / "MANO_RIGHT.npz", tmp_path / "report"
        HandModel.load("open").save(hand)
        if name == "freihand":
            write_freihand(root, "val", count=4)
            dataset = FreihandDataset(root, "val", hand=str(hand))
        else:
            write_ho3d(root, split="val", truth=True)
            dataset = Ho3dDataset(root, "val", hand=str(hand))
        evaluation = evaluate(slightly_wrong, batches_of(dataset, batch_size=3), PROTOCOLS[name])
        write_report(evaluation, report, None)
        annotated = [json.loads((root / f"evaluation_{field}.json").read_text()) for field in ("xyz", "verts")]
        predicted = json.loads((report / "pred.json").read_text())
        metrics = json.loads((report / "metrics.json").read_text())
        return metrics, *([np.array(points) for points in pair] for pair in (annotated, predicted))

    return score


def slightly_wrong(batch):
    """Turn, scale and disturb the annotation, so that errors lie on both sides of the thresholds."""
    rng = np.random.default_rng(len(batch))
    joints, vertices = (
        1.15 * points.double().numpy()[..., [1, 0, 2]] * [1, -1, 1] + rng.normal(0, 0.008, points.shape)
        for points in (batch.joints_3d, batch.vertices)
    )
    joints[:, 0] = 0
    return make_prediction(joints, np.zeros((len(batch), 21, 2)), np.ones((len(batch), 3)), vertices)


def aligned(annotated, predicted):
    centred_a, centred_p = annotated - annotated.mean(0), predicted - predicted.mean(0)
    size_a, size_p = np.linalg.norm(centred_a) + 1e-8, np.linalg.norm(centred_p) + 1e-8
    rotation, share = orthogonal_procrustes(centred_a / size_a, centred_p / size_p)
    return centred_p / size_p @ rotation.T * share * size_a + annotated.mean(0)


def scaled_and_moved(annotated, predicted):
    wanted, length = (np.linalg.norm(points[MIDDLE_1] - points[0]) for points in (annotated, predicted))
    return (predicted - predicted[0]) * wanted / length + annotated[0]


def mean_and_area(annotated, predicted, align):
    moved = np.array([align(a, p) for a, p in zip(annotated, predicted, strict=True)])
    distances = np.sqrt(((annotated - moved) ** 2).sum(axis=2))
    thresholds = np.linspace(0, 0.05, 100)
    areas = [
        trapezoid([np.mean(key_point <= threshold) for threshold in thresholds], thresholds) / 0.05
        for key_point in distances.T
    ]
    return 1000 * distances.mean(axis=0).mean(), np.mean(areas)


def f_score(annotated, predicted, align, threshold):
    scores = []
    for a, p in zip(annotated, predicted, strict=True):
        p = align(a, p)
        recall, precision = (np.mean(cKDTree(y).query(x)[0] < threshold) for x, y in ((a, p), (p, a)))
        scores.append(2 * recall * precision / (recall + precision) if recall + precision else 0)
    return np.mean(scores)


def as_it_is(_, predicted):
    return predicted


@pytest.mark.parametrize("name", ["freihand", "ho3d"])
def test_the_published_scorer_finds_the_same(scored, name):
    metrics, (joints, vertices), (predicted_joints, predicted_vertices) = scored(name)

    found = {}
    found["pa_mpjpe_mm"], found["pa_auc"] = mean_and_area(joints, predicted_joints, aligned)
    found["pa_mpvpe_mm"], found["pa_vertex_auc"] = mean_and_area(vertices, predicted_vertices, aligned)
    found["mpjpe_mm"], _ = mean_and_area(joints, predicted_joints, as_it_is)
    found["mpvpe_mm"], _ = mean_and_area(vertices, predicted_vertices, as_it_is)
    for millimetres in (5, 15):
        found[f"pa_f_{millimetres}mm"] = f_score(vertices, predicted_vertices, aligned, millimetres / 1000)
        found[f"f_{millimetres}mm"] = f_score(vertices, predicted_vertices, as_it_is, millimetres / 1000)
    if name == "ho3d":
        found["scaled_mpjpe_mm"], found["scaled_auc"] = mean_and_area(joints, predicted_joints, scaled_and_moved)

    assert found.keys() == metrics.keys() - {"protocol", "samples", "skipped"}
    for key, value in found.items():
        assert metrics[key] == pytest.approx(value, rel=1e-4), key
    assert 0.2 < metrics["pa_auc"] < 0.95
    assert 0.1 < metrics["pa_f_5mm"] < metrics["pa_f_15mm"]
