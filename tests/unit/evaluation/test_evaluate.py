"""Evaluation of predictions whose figures are known: the truth's, and those that a direct computation gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from evaluated_hands import (
    HEIGHT,
    WIDTH,
    batches_of,
    both_sides,
    make_prediction,
    oracle,
    paper_camera,
    tensor,
    to_crop,
)
from hamr_lightning.crop_geometry import to_source_pixels
from hamr_lightning.data.dexter_object import DexterObjectDataset
from hamr_lightning.errors import UserError
from hamr_lightning.evaluation import PROTOCOLS, evaluate
from hamr_lightning.evaluation.evaluate import EXTREMES
from hamr_lightning.hand_model import HandModel
from hamr_lightning.renderers.contour import ContourRenderer
from layouts.dexter_object import write_dexter_object

TIPS = [4, 8, 12, 16, 20]


@pytest.fixture(scope="module")
def hands():
    return both_sides(5)


@pytest.fixture(scope="module")
def incomplete(hands):
    """The same hands, of which some lack this or that."""
    few = np.arange(21) % 5 != 2
    lacking = [
        {},
        {"joints_2d_valid": few, "joints_3d_valid": few},
        {"joints_3d": None, "vertices": None},
        {"mask": None},
        {"vertices": None},
        {"joints_3d_valid": np.arange(21) > 0},
        {"joints_3d_valid": np.arange(21) == 0, "vertices": None},
    ]
    changed = [replace(hand, **fields) for hand, fields in zip(hands, lacking, strict=False)]
    return [*changed, *hands[len(changed) :]]


@pytest.fixture(scope="module")
def constant():
    """One hand, whatever the picture."""
    rng = np.random.default_rng(3)
    joints = rng.normal(0, 0.04, (21, 3)) - np.array([0, 0.06, 0])
    joints[0] = 0
    return {
        "joints_3d": joints,
        "joints_2d": rng.uniform(-0.6, 0.6, (21, 2)),
        "camera": np.array([9.0, 0.01, 0.02]),
        "vertices": rng.normal(0, 0.03, (778, 3)) - np.array([0, 0.06, 0]),
        "silhouette": (np.hypot(*np.mgrid[-1:1:16j, -1:1:16j]) < 0.6).astype(float),
    }


def predict_always(constant):
    def predict(batch):
        return make_prediction(**{name: np.stack([value] * len(batch)) for name, value in constant.items()})

    return predict


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_truth_has_no_error(hands, name):
    truth = oracle(hands, ContourRenderer(HandModel.load("open").faces, 64))
    figures = evaluate(truth, batches_of(hands), PROTOCOLS[name]).figures()

    assert [*figures] == [*PROTOCOLS[name].figures]
    for key, value in figures.items():
        if "auc" in key or "f_" in key:
            starts_at_0 = name != "paper" or key == "auc_2d"
            assert value > 0.98 if starts_at_0 else value == 1, key  # no error is 0 to the last bit
        elif "miou" in key:
            assert value > 0.97
        else:
            assert value < 2e-3, key


def test_the_truth_of_a_perspective_hand_is_no_weak_perspective_camera_but_close(hands):
    truth = oracle(hands, ContourRenderer(HandModel.load("open").faces, 64))

    def weakly(batch):
        predicted = truth(batch)
        depth = torch.tensor([hands[int(source)].joints_3d[:, 2].mean() for source in batch.sources])
        scale = torch.tensor([hands[int(source)].intrinsics[0, 0] for source in batch.sources]) / depth
        camera = predicted.camera.clone()
        camera[:, 0] = scale / batch.crop_to_image[:, 0, 0]
        return replace(predicted, parameters=replace(predicted.parameters, camera=camera))

    assert evaluate(weakly, batches_of(hands), PROTOCOLS["paper"]).figures()["camera_scale_error"] < 0.05


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_constant_prediction_has_the_figures_that_a_direct_computation_gives(incomplete, constant, name):
    batches = batches_of(incomplete)
    figures = evaluate(predict_always(constant), batches, PROTOCOLS[name]).figures()
    expected = directly(incomplete, constant, batches)

    assert [*figures] == [*PROTOCOLS[name].figures]
    for key, value in figures.items():
        assert value == pytest.approx(expected[key], rel=2e-5), key


def directly(hands, constant, batches):
    """Return every protocol's figures, a sample after the other."""
    crops = np.concatenate([batch.crop_to_image.double().numpy() for batch in batches])
    masks = np.concatenate([batch.mask.numpy() for batch in batches])
    found = {}

    def note(name, values):
        found.setdefault(name, []).extend(np.ravel(values))

    for hand, crop, mask in zip(hands, crops, masks, strict=True):
        side = np.array([-1.0 if hand.is_left else 1.0, 1, 1])
        everywhere = np.ones(21, dtype=bool)
        seen = everywhere if hand.joints_2d_valid is None else hand.joints_2d_valid
        planar = to_crop(hand.joints_2d_px, crop, hand.is_left)
        note("crop", np.linalg.norm(constant["joints_2d"] - planar, axis=1)[seen])
        drawn = constant["joints_2d"] * side[:2] @ crop[:, :2].T + crop[:, 2]
        note("px", np.linalg.norm(drawn - hand.joints_2d_px, axis=1)[seen])
        if hand.mask is not None:
            shown, fine = (within_picture(crop, hand.is_left, size) for size in (16, 64))
            drawn = constant["silhouette"] > 0
            found_hand = iou(drawn & shown, averaged(mask) > 0.5)
            note("iou", found_hand)
            note("iou_two_classes", (found_hand + iou(~drawn & shown, averaged(fine - mask) > 0.5)) / 2)
        if hand.joints_3d is None:
            continue
        known = everywhere if hand.joints_3d_valid is None else hand.joints_3d_valid
        if known.sum() == 1:
            continue
        truth, predicted = hand.joints_3d * side, constant["joints_3d"]
        tips = [tip for tip in TIPS if known[tip]]
        note("tips", distances_mm(by_centroid(predicted[tips], truth[tips]), truth[tips]))
        if not known[0]:
            continue
        relative = truth - truth[0]
        camera = paper_camera(relative, planar, known & seen)
        note("camera_scale", abs(constant["camera"][0] / camera[0] - 1))
        note("camera_mm", 1000 * np.linalg.norm(constant["camera"][1:] - camera[1:]))
        note("root", distances_mm(predicted, relative)[known])
        if known[9]:
            longer = np.linalg.norm(relative[9]) / np.linalg.norm(predicted[9])
            note("scaled", distances_mm(longer * predicted, relative)[known])
        note("pa", distances_mm(by_procrustes(predicted[known], truth[known]), truth[known]))
        if hand.vertices is not None:
            mesh, annotated = constant["vertices"], hand.vertices * side - truth[0]
            aligned = by_procrustes(mesh, annotated)
            note("vertices", distances_mm(mesh, annotated))
            note("pa_vertices", distances_mm(aligned, annotated))
            for threshold in (5, 15):
                note(f"f_{threshold}", f_score(mesh, annotated, threshold))
                note(f"pa_f_{threshold}", f_score(aligned, annotated, threshold))
    means = {name: np.mean(values) for name, values in found.items()}
    return {
        "auc_3d": area(found["root"], 20, 50, 20),
        "joint_error_mm": means["root"],
        "median_joint_error_mm": np.median(found["root"]),
        "auc_3d_scaled": area(found["scaled"], 20, 50, 20),
        "auc_3d_tips": area(found["tips"], 20, 50, 20),
        "tip_error_mm": means["tips"],
        "pa_joint_error_mm": means["pa"],
        "auc_2d": area(found["px"], 0, 30, 31),
        "joint_error_px": means["px"],
        "joint_error_crop": means["crop"],
        "miou": means["iou"],
        "miou_two_classes": means["iou_two_classes"],
        "camera_scale_error": means["camera_scale"],
        "camera_error_mm": means["camera_mm"],
        "pa_mpjpe_mm": means["pa"],
        "pa_auc": area(found["pa"], 0, 50, 100),
        "pa_mpvpe_mm": means["pa_vertices"],
        "pa_vertex_auc": area(found["pa_vertices"], 0, 50, 100),
        "pa_f_5mm": means["pa_f_5"],
        "pa_f_15mm": means["pa_f_15"],
        "mpjpe_mm": means["root"],
        "mpvpe_mm": means["vertices"],
        "f_5mm": means["f_5"],
        "f_15mm": means["f_15"],
        "scaled_mpjpe_mm": means["scaled"],
        "scaled_auc": area(found["scaled"], 0, 50, 100),
    }


def within_picture(crop_to_image, mirrored, size):
    """Tell which pixels of a crop have their centre in the source image."""
    centres = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(-centres if mirrored else centres, centres)
    pixels = np.stack([x, y], axis=-1) @ crop_to_image[:, :2].T + crop_to_image[:, 2]
    return ((pixels >= 0) & (pixels <= [WIDTH, HEIGHT])).all(axis=-1)


def averaged(mask):
    return mask.reshape(16, 4, 16, 4).mean(axis=(1, 3))


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def distances_mm(one, other):
    return 1000 * np.linalg.norm(one - other, axis=1)


def by_centroid(predicted, truth):
    offsets, wanted = (points - points.mean(axis=0) for points in (predicted, truth))
    spread, wide = (np.linalg.norm(points, axis=1).mean() for points in (offsets, wanted))
    return offsets * wide / spread + truth.mean(axis=0)


def by_procrustes(predicted, truth):
    offsets, wanted = (points - points.mean(axis=0) for points in (predicted, truth))
    turned = Rotation.align_vectors(wanted, offsets)[0].apply(offsets)
    return turned * (turned * wanted).sum() / (turned**2).sum() + truth.mean(axis=0)


def f_score(predicted, truth, threshold_mm):
    precision, recall = (
        np.mean(1000 * cKDTree(there).query(here)[0] < threshold_mm)
        for here, there in ((predicted, truth), (truth, predicted))
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def area(errors, start, stop, steps):
    shares = [np.mean(np.array(errors) <= threshold) for threshold in np.linspace(start, stop, steps)]
    return (sum(shares) - (shares[0] + shares[-1]) / 2) / (steps - 1)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_batches_and_order_do_not_matter(incomplete, constant, name):
    predict = predict_always(constant)
    one = evaluate(predict, batches_of(incomplete), PROTOCOLS[name])
    other = evaluate(predict, batches_of(incomplete[::-1], batch_size=3), PROTOCOLS[name])

    assert other.sources == one.sources[::-1]
    assert one.figures() == pytest.approx(other.figures(), rel=1e-6)
    assert {sample.batch.sources for sample in one.worst} == {sample.batch.sources for sample in other.worst}


def test_the_worst_and_the_best_are_so_in_order(hands, constant):
    def predict(batch):
        growth = tensor([1 + 0.03 * int(source) for source in batch.sources])
        predicted = predict_always(constant)(batch)
        return replace(predicted, joints_3d=growth[:, None, None] * predicted.joints_3d)

    evaluation = evaluate(predict, batches_of(hands, batch_size=3), PROTOCOLS["paper"])
    errors = evaluation.errors()[evaluation.ranked_by]

    assert evaluation.ranked_by == "joints_root_mm"
    assert len(hands) > EXTREMES
    order = np.argsort(errors)
    assert [sample.number for sample in evaluation.best] == order[:EXTREMES].tolist()
    assert [sample.number for sample in evaluation.worst] == order[::-1][:EXTREMES].tolist()
    for sample in (*evaluation.best, *evaluation.worst):
        assert sample.batch.sources == (str(sample.number),)
        assert sample.error == errors[sample.number]
        assert len(sample.batch) == 1
        assert sample.batch.image.untyped_storage().nbytes() == 3 * 64 * 64 * 4  # the others' are not kept


def test_samples_are_ranked_by_what_only_later_ones_are_annotated_with(hands, constant):
    planar = [replace(hand, joints_3d=None, vertices=None) for hand in hands[:4]]
    ranked = evaluate(predict_always(constant), batches_of([*planar, *hands[4:7]], batch_size=2), PROTOCOLS["paper"])
    assert ranked.ranked_by == "joints_root_mm"
    assert {sample.number for sample in ranked.worst} == {sample.number for sample in ranked.best} == {4, 5, 6}

    masks = evaluate(predict_always(constant), batches_of(planar), PROTOCOLS["paper"])
    assert masks.ranked_by == "joints_px"
    errors = masks.errors()["joints_px"]
    assert [sample.number for sample in masks.worst] == np.argsort(-errors).tolist()


def test_dexter_object_gives_the_figures_of_tips_and_of_the_image_alone(tmp_path, constant):
    write_dexter_object(tmp_path, frames=1, missing=[(1, 3)])
    evaluation = evaluate(
        predict_always(constant), batches_of(DexterObjectDataset(tmp_path, "val")), PROTOCOLS["paper"]
    )

    assert [*evaluation.figures()] == ["auc_3d_tips", "tip_error_mm", "auc_2d", "joint_error_px", "joint_error_crop"]
    assert evaluation.counts["tips_centroid_scale_mm"].sum() == evaluation.counts["joints_px"].sum() == 29
    assert [*evaluation.curves()] == ["pck_3d", "pck_2d"]
    assert evaluation.ranked_by == "tips_centroid_scale_mm"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_without_annotation_there_is_no_figure(hands, constant, name):
    nothing = [
        replace(
            hand,
            joints_2d_valid=np.zeros(21, dtype=bool),
            joints_3d_valid=np.arange(21) == 0,  # as HO-3D's evaluation: the root tells nothing of the hand
            vertices=None,
            mask=None,
            box_px=np.array([20.0, 20, 120, 120]),
        )
        for hand in hands[:3]
    ]
    evaluation = evaluate(predict_always(constant), batches_of(nothing), PROTOCOLS[name])

    assert evaluation.figures() == evaluation.curves() == evaluation.errors() == {}
    assert [*evaluation.worst, *evaluation.best] == []
    assert evaluation.sources == ["0", "1", "2"]
    assert (evaluation.predicted is None) == (name == "paper")


def test_a_model_without_mesh_and_renderer_has_the_joints_figures(hands, constant):
    bare = {name: value for name, value in constant.items() if name not in ("vertices", "silhouette")}
    figures, whole = (
        evaluate(predict_always(prediction), batches_of(hands[:3]), PROTOCOLS["paper"]).figures()
        for prediction in (bare, constant)
    )
    assert figures == {key: value for key, value in whole.items() if "miou" not in key}
    assert [*evaluate(predict_always(bare), batches_of(hands[:3]), PROTOCOLS["freihand"]).figures()] == [
        "pa_mpjpe_mm",
        "pa_auc",
        "mpjpe_mm",
    ]


@pytest.mark.parametrize("field", ["joints_3d", "joints_2d", "vertices", "camera", "silhouette"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_refused(hands, constant, field, wrong):
    broken = constant | {field: np.where(np.arange(constant[field].size) == 1, wrong, constant[field].flat)}
    broken[field] = broken[field].reshape(constant[field].shape)
    name = "freihand" if field == "vertices" else "paper"
    with pytest.raises(UserError, match="not finite"):
        evaluate(predict_always(broken), batches_of(hands[:2]), PROTOCOLS[name])


def test_pixels_are_those_of_the_source_image_on_both_sides(hands):
    (batch,) = batches_of(hands, batch_size=len(hands))
    assert batch.mirrored.tolist() == [False, True] * 5
    for hand, pixels in zip(hands, to_source_pixels(batch.joints_2d, batch), strict=True):
        np.testing.assert_allclose(pixels, hand.joints_2d_px, atol=1e-3)
    with pytest.raises(ValueError, match="crop_to_image is None"):
        to_source_pixels(batch.joints_2d, replace(batch, crop_to_image=None))


def test_the_scorers_get_the_hands_of_the_source_image(hands):
    unknown = replace(hands[1], joints_3d=None, vertices=None)
    truth = oracle(hands, ContourRenderer(HandModel.load("open").faces, 8))
    scored = {
        name: evaluate(truth, batches_of([hands[0], unknown, *hands[2:4]]), PROTOCOLS[name]).predicted
        for name in ("freihand", "ho3d")
    }
    for number, hand in enumerate(hands[:4]):
        origin = hand.joints_3d[0] if number == 1 else 0  # where the root is not known, it stays at 0
        for points, known in zip(scored["freihand"], (hand.joints_3d, hand.vertices), strict=True):
            np.testing.assert_allclose(points[number], known - origin, atol=1e-6)
    joints, vertices = scored["freihand"]
    np.testing.assert_array_equal(scored["ho3d"][1], vertices * [1, -1, -1])
    wrist, index, middle, pinky, ring, thumb = [0], [5, 6, 7], [9, 10, 11], [17, 18, 19], [13, 14, 15], [1, 2, 3]
    order = [*wrist, *index, *middle, *pinky, *ring, *thumb, *TIPS]
    np.testing.assert_array_equal(scored["ho3d"][0], joints[:, order] * [1, -1, -1])


def test_what_cannot_be_read_is_named_wherever_it_stands(hands, constant):
    broken = [ValueError("first"), hands[0], ValueError("middle"), hands[1], hands[2], ValueError("last")]
    for size in (1, 2, 4):
        with pytest.warns(UserWarning, match="skipped"):
            evaluation = evaluate(predict_always(constant), batches_of(broken, size), PROTOCOLS["paper"])
        assert evaluation.skipped == ["first", "middle", "last"]
        assert evaluation.sources == ["0", "1", "2"]


def test_nothing_to_evaluate_is_a_mistake(constant):
    with pytest.raises(UserError, match="there is no sample to evaluate"):
        evaluate(predict_always(constant), [], PROTOCOLS["paper"])
