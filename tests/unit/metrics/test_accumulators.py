import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hamr_lightning.metrics import (
    PCKAUC,
    PCKAUC2D,
    FScore,
    MeanCameraError,
    MeanIoU,
    MeanJointError,
    MeanOverValid,
    MeanVertexError,
    MedianJointError,
    align,
    area_under_curve,
    camera_errors,
    f_score,
    mask_iou,
    pck_curve,
    point_errors_2d,
    point_errors_mm,
)


def all_metrics():
    """Every class whose figure is exact, with the fixture that it takes."""
    return {
        "mean": (MeanJointError(), "joints"),
        "mean_pa": (MeanJointError("procrustes"), "joints"),
        "median": (MedianJointError(), "joints"),
        "median_tips": (MedianJointError("centroid_scale"), "joints"),
        "auc": (PCKAUC(), "joints"),
        "auc_scaled": (PCKAUC(0.0, 50.0, 100, "root_scale"), "joints"),
        "auc_2d": (PCKAUC2D(0.0, 0.08, 9), "flat"),
        "mpvpe": (MeanVertexError(), "vertices"),
        "mpvpe_pa": (MeanVertexError("procrustes"), "vertices"),
        "f": (FScore(5.0), "vertices"),
        "f_unaligned": (FScore(5.0, "none"), "vertices"),
        "miou": (MeanIoU(), "masks"),
        "camera": (MeanCameraError(), "cameras"),
    }


NAMES = list(all_metrics())


@pytest.fixture(scope="session")
def flat(joints):
    predicted, annotated, valid = joints
    return predicted[..., :2] - 0.06, annotated[..., :2], valid


@pytest.fixture
def data(joints, flat, vertices, masks, cameras):
    return {"joints": joints, "flat": flat, "vertices": vertices, "masks": masks, "cameras": cameras}


def measure(metric, *arguments):
    metric.update(*arguments)
    return metric.compute()


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    return torch.equal(one, other)


def assert_nan(figure):
    values = figure.values() if isinstance(figure, dict) else [figure]
    assert all(value.isnan() for value in values)


@pytest.mark.parametrize("alignment", ["none", "root", "root_scale", "procrustes"])
def test_joint_errors_are_of_the_joints_that_count(joints, alignment):
    errors, counts = point_errors_mm(*joints, alignment)
    errors = errors[counts].double().numpy()
    assert 100 < len(errors) < 252
    assert measure(MeanJointError(alignment), *joints).item() == pytest.approx(errors.mean(), rel=1e-6)
    assert measure(MedianJointError(alignment), *joints).item() == pytest.approx(np.median(errors), rel=1e-6)


@pytest.mark.parametrize("joints_counted", [4, 5])
def test_the_median_of_an_even_number_lies_between_the_middle_two(joints_counted):
    annotated, valid = torch.zeros(1, 21, 3), torch.arange(21)[None] < joints_counted
    predicted = annotated.clone()
    predicted[0, :5, 0] = torch.tensor([0.0, 0.004, 0.001, 0.002, 0.016])
    expected = {4: 1.5, 5: 2.0}[joints_counted]
    assert measure(MedianJointError(), predicted, annotated, valid).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alignment", ["root", "procrustes"])
def test_auc_is_that_of_the_curve_over_the_thresholds(joints, alignment):
    metric = PCKAUC(start_mm=10.0, stop_mm=60.0, steps=11, alignment=alignment)
    auc = measure(metric, *joints)
    thresholds, curve = metric.curve()
    assert thresholds.tolist() == [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    assert torch.equal(curve, pck_curve(*point_errors_mm(*joints, alignment), thresholds))
    assert 0.05 < curve[0] < curve[-1]
    assert auc == area_under_curve(curve, thresholds)


def test_auc_in_the_image_is_that_of_the_curve_over_the_thresholds(flat):
    metric = PCKAUC2D(0.0, 0.1, 6)
    auc = measure(metric, *flat)
    thresholds, curve = metric.curve()
    assert thresholds.tolist() == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert torch.equal(curve, pck_curve(point_errors_2d(*flat[:2]), flat[2], thresholds))
    assert 0.1 < auc < 0.9
    assert auc == area_under_curve(curve, thresholds)


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1), (0.019, 1), (0.051, 0)])
def test_auc_of_equal_errors(error, expected):
    annotated = torch.zeros(1, 21, 3)
    predicted = annotated.clone()
    predicted[:, 1:, 0] = error
    valid = torch.ones(1, 21, dtype=torch.bool)
    valid[:, 20] = False
    assert measure(PCKAUC(), predicted, annotated, valid).item() == pytest.approx((19 * expected + 1) / 20)


@pytest.mark.parametrize("alignment", ["none", "procrustes"])
def test_vertex_errors_and_f_scores_are_of_the_valid_samples(vertices, alignment):
    predicted, annotated, valid = (tensor[vertices[2]] for tensor in vertices)
    assert len(predicted) == 9
    every = torch.ones(9, 60, dtype=torch.bool)
    errors, _ = point_errors_mm(predicted, annotated, every, alignment)
    assert measure(MeanVertexError(alignment), *vertices).item() == pytest.approx(errors.mean().item(), rel=1e-6)
    aligned, _ = align(predicted, annotated, every, alignment)
    for threshold in (5.0, 15.0):
        score = f_score(aligned, annotated, threshold).mean().item()
        assert measure(FScore(threshold, alignment), *vertices).item() == pytest.approx(score, rel=1e-6)
    assert valid.all()


def test_an_f_score_is_of_samples_that_can_be_aligned(vertices):
    predicted, annotated, valid = vertices
    collapsed, others = annotated.clone(), valid.clone()
    collapsed[0], others[0] = 0.01, False
    assert valid[0]
    assert torch.equal(
        measure(FScore(5.0), predicted, collapsed, valid), measure(FScore(5.0), predicted, annotated, others)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_has_no_error(name, data):
    metric, source = all_metrics()[name]
    truth, rest = data[source][1], data[source][2:]
    if source == "cameras":
        figures = measure(metric, truth.nan_to_num(1), truth)
        assert [value.item() for value in figures.values()] == [0, 0]
    elif source == "masks":
        assert measure(metric, truth, truth, *rest) == 1
    elif name.startswith(("auc", "f")):
        # Rounding in an alignment leaves some errors just above a first threshold of 0.
        assert measure(metric, truth, truth, *rest).item() == pytest.approx(1, abs=0.5 / 99)
    else:
        assert measure(metric, truth, truth, *rest) < 1e-6


def test_mean_iou_is_of_the_valid_samples(masks):
    expected = mask_iou(*masks[:2])[masks[2]].mean()
    assert measure(MeanIoU(), *masks).item() == pytest.approx(expected.item(), rel=1e-6)


def test_camera_errors_are_of_the_annotated_samples(cameras):
    scale, translation_mm, counts = camera_errors(*cameras)
    assert counts.sum() == 9
    means = {"scale": scale[counts].mean().item(), "translation_mm": translation_mm[counts].mean().item()}
    figures = measure(MeanCameraError(), *cameras)
    assert {key: value.item() for key, value in figures.items()} == pytest.approx(means, rel=1e-6)


def test_a_mean_over_valid_is_of_values_of_any_size():
    metric = MeanOverValid()
    assert measure(metric, torch.tensor([1e9, 7.0, -2e9]), torch.tensor([True, False, True])) == -5e8
    metric.update(torch.tensor([float("nan")]), torch.tensor([True]))
    assert metric.compute().isinf()
    assert measure(MeanOverValid(), torch.ones(2), torch.zeros(2, dtype=torch.bool)).isnan()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [[1, 7, 4], [1] * 12, [5, 0, 7]])
def test_batches_and_order_do_not_matter_at_all(name, sizes, data):
    metric, source = all_metrics()[name]
    at_once = measure(metric, *data[source])
    piecemeal, _ = all_metrics()[name]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(sum(sizes[:1])))
    for part in order.split(sizes):
        piecemeal.update(*(argument[part] for argument in data[source]))
    assert same(piecemeal.compute(), at_once)


@pytest.mark.parametrize("name", NAMES)
def test_forward_gives_the_batch_s_figure_and_accumulates(name, data):
    metric, source = all_metrics()[name]
    halves = [[argument[part] for argument in data[source]] for part in (slice(0, 5), slice(5, 12))]
    for half in halves:
        assert same(metric(*half), measure(all_metrics()[name][0], *half))
    assert same(metric.compute(), measure(all_metrics()[name][0], *data[source]))


@pytest.mark.parametrize("name", NAMES)
def test_without_valid_annotation_there_is_no_figure(name, data):
    metric, source = all_metrics()[name]
    predicted, annotated, *valid = data[source]
    rest = [torch.zeros_like(each) for each in valid]
    figure = measure(metric, predicted, annotated if valid else torch.full_like(annotated, torch.nan), *rest)
    assert_nan(figure)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_before_the_first_batch_there_is_no_figure(name):
    metric, _ = all_metrics()[name]
    assert_nan(metric.compute())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_refused(name, value, data):
    metric, source = all_metrics()[name]
    predicted, *rest = data[source]
    predicted = predicted.clone()
    predicted.view(-1)[17] = value
    with pytest.raises(ValueError, match=f"1 of {predicted.numel()} predicted numbers are not finite"):
        metric.update(predicted, *rest)


@pytest.mark.parametrize("alignment", ["none", "root", "procrustes"])
def test_a_prediction_that_has_diverged_has_no_small_error(joints, alignment):
    _, annotated, valid = joints
    for factor in (1e6, 1e20, 1e37):
        wild = factor * torch.randn(12, 21, 3, generator=torch.Generator().manual_seed(1))
        error = measure(MeanJointError(alignment), wild, annotated, valid)
        assert error > (20 if alignment == "procrustes" else 9e3)
        assert measure(PCKAUC(alignment=alignment), wild, annotated, valid) < 0.7


def test_sums_of_millions_of_errors_are_exact():
    annotated, valid = torch.zeros(2000, 778, 3), torch.ones(2000, dtype=torch.bool)
    predicted = annotated.clone()
    predicted[..., 0] = 0.1
    predicted[0, 0, 0] = 0.1 + 2**-10
    metric = MeanVertexError()
    for _ in range(2):
        metric.update(predicted, annotated, valid)
    usual, odd = (1000 * np.float64(value) for value in (predicted[1, 0, 0].item(), predicted[0, 0, 0].item()))
    expected = (usual * (2000 * 778 - 1) + odd) / (2000 * 778)
    assert metric.compute().item() == np.float32(expected)


@pytest.mark.parametrize("metric", [PCKAUC, PCKAUC2D])
@pytest.mark.parametrize("arguments", [(-1.0, 50.0, 20), (50.0, 20.0, 20), (20.0, 50.0, 1), (0.0, float("inf"), 9)])
def test_thresholds_that_make_no_curve_are_refused(metric, arguments):
    with pytest.raises(ValueError, match="needs 0 <= start < stop and steps of at least 2"):
        metric(*arguments)


@pytest.mark.parametrize("metric", [MeanJointError, MedianJointError, MeanVertexError, PCKAUC, partial(FScore, 5.0)])
def test_an_unknown_alignment_is_refused_at_once(metric):
    with pytest.raises(ValueError, match="alignment must be one of"):
        metric(alignment="wrist")


@pytest.mark.parametrize("threshold", [0.0, -5.0, float("nan")])
def test_a_threshold_that_nothing_is_within_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold_mm must be above 0"):
        FScore(threshold)


def test_half_precision_of_the_model_changes_no_threshold(joints):
    metric = PCKAUC(20.3, 49.7, 7)
    before = measure(metric, *joints)
    model = torch.nn.ModuleDict({"auc": metric}).to(torch.bfloat16)
    metric.reset()
    assert measure(model["auc"], *joints) == before


RANK_SCRIPT = """
import sys, torch, torch.distributed as dist, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, ".")
from test_accumulators import all_metrics
rank, store, data, output = int(sys.argv[1]), sys.argv[2], torch.load(sys.argv[3]), sys.argv[4]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
figures = {}
for name, (metric, source) in all_metrics().items():
    for part in ([8, 0, 11], [3, 5, 6, 4, 7]) if rank == 0 else ([10, 2, 1, 9],):
        metric.update(*(argument[part] for argument in data[source]))
    figures[name] = metric.compute()
    if hasattr(metric, "curve"):
        figures[name + "/curve"] = metric.curve()[1]
    metric.reset()
    if rank == 0:
        metric.update(*data[source])
    figures[name + "/rank 0 alone"] = metric.compute()
dist.destroy_process_group()
torch.save(figures, output)
"""


def test_processes_do_not_matter_at_all(data, tmp_path):
    torch.save(data, tmp_path / "data.pt")

    def start(rank):
        arguments = map(str, (rank, tmp_path / "store", tmp_path / "data.pt", tmp_path / f"{rank}.pt"))
        return subprocess.Popen([sys.executable, "-c", RANK_SCRIPT, *arguments], cwd=Path(__file__).parent)

    processes = [start(0), start(1)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for figures in (torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")):
        for name, (metric, source) in all_metrics().items():
            alone = measure(metric, *data[source])
            assert same(figures[name], alone)
            assert same(figures[f"{name}/rank 0 alone"], alone)
            if hasattr(metric, "curve"):
                assert torch.equal(figures[f"{name}/curve"], metric.curve()[1])
