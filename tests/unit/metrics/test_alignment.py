from functools import partial

import numpy as np
import pytest
import torch

from hamr_lightning.metrics import ALIGNMENTS, align, align_root_scale, point_errors_mm


def points_of(*shape, seed=0, scale=0.05):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def everywhere(points):
    return torch.ones(points.shape[:2], dtype=torch.bool)


def test_none_leaves_the_points_where_they_are():
    predicted, annotated = points_of(2, 30, 3), points_of(2, 30, 3, seed=1)
    aligned, usable = align(predicted, annotated, torch.zeros(2, 30, dtype=torch.bool), "none")
    assert torch.equal(aligned, predicted.double())
    assert usable.all()


def test_root_moves_the_root_onto_the_annotated_one():
    predicted, annotated = points_of(3, 21, 3), points_of(3, 21, 3, seed=1)
    valid = everywhere(predicted)
    valid[1, 0] = False
    aligned, usable = align(predicted, annotated, valid, "root")
    assert usable.tolist() == [True, False, True]
    for moved, p, a in zip(aligned.numpy(), predicted.double().numpy(), annotated.double().numpy(), strict=True):
        np.testing.assert_allclose(moved, [point - p[0] + a[0] for point in p], atol=1e-15)


def test_a_root_without_another_joint_has_no_error():
    points = points_of(2, 21, 3)
    valid = (torch.arange(21) < torch.tensor([[1], [2]])).contiguous()
    _, counts = point_errors_mm(points, points, valid, "root")
    assert counts.sum(dim=1).tolist() == [0, 2]


@pytest.mark.parametrize("bone", [(0, 9), (9, 10)])
def test_root_scale_gives_the_named_bone_its_annotated_length(bone):
    predicted, annotated = points_of(3, 21, 3) * 3, points_of(3, 21, 3, seed=1)
    alignment = "root_scale" if bone == (0, 9) else partial(align_root_scale, bone=bone)
    aligned, usable = align(predicted, annotated, everywhere(predicted), alignment)
    assert usable.all()
    for moved, p, a in zip(aligned.numpy(), predicted.double().numpy(), annotated.double().numpy(), strict=True):
        factor = np.linalg.norm(a[bone[1]] - a[bone[0]]) / np.linalg.norm(p[bone[1]] - p[bone[0]])
        np.testing.assert_allclose(moved, a[0] + factor * (p - p[0]), atol=1e-15)


def test_root_scale_takes_the_root_and_a_bone_longer_than_0():
    predicted, annotated = points_of(5, 21, 3), points_of(5, 21, 3, seed=1)
    valid = everywhere(predicted)
    for sample, joint in enumerate((0, 9, 10, 11)):
        valid[sample, joint] = False
    annotated[4, 10] = annotated[4, 9]
    _, usable = align(predicted, annotated, valid, partial(align_root_scale, bone=(9, 10)))
    assert usable.tolist() == [False, False, False, True, False]


def test_a_predicted_bone_of_length_0_is_not_scaled():
    predicted, annotated = points_of(1, 21, 3), points_of(1, 21, 3, seed=1)
    predicted[0, 9] = predicted[0, 0]
    scaled, by_root = (
        point_errors_mm(predicted, annotated, everywhere(annotated), name) for name in ("root_scale", "root")
    )
    assert torch.equal(scaled[0], by_root[0])
    assert scaled[1].all()


def test_centroid_scale_is_by_the_mean_distance_of_the_valid_points():
    predicted, annotated = points_of(4, 5, 3, seed=2) * 2 + 0.4, points_of(4, 5, 3, seed=3)
    valid = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]).bool()
    annotated[~valid] = 1e30
    aligned, usable = align(predicted, annotated, valid, "centroid_scale")
    assert usable.tolist() == [True, True, True, False]
    for sample in range(3):
        p, a = (points[sample, valid[sample]].double().numpy() for points in (predicted, annotated))
        p0, a0 = p.mean(0), a.mean(0)
        factor = np.linalg.norm(a - a0, axis=1).mean() / np.linalg.norm(p - p0, axis=1).mean()
        np.testing.assert_allclose(aligned[sample, valid[sample]], a0 + factor * (p - p0), atol=1e-14)


@pytest.mark.parametrize(("alignment", "fewest"), [("centroid_scale", 2), ("procrustes", 3)])
def test_too_few_points_or_points_that_coincide_do_not_count(alignment, fewest):
    predicted, annotated = points_of(3, 21, 3), points_of(3, 21, 3, seed=1)
    valid = torch.zeros(3, 21, dtype=torch.bool)
    valid[0, :fewest] = valid[1, : fewest - 1] = True
    valid[2, :10] = True
    annotated[2, :10] = annotated[2, 0].clone()
    errors, counts = point_errors_mm(predicted, annotated, valid, alignment)
    assert torch.equal(counts, valid & torch.tensor([[True], [False], [False]]))
    assert errors[~counts].eq(0).all()
    assert errors[counts].gt(0).any()


@pytest.mark.parametrize("seed", range(4))
def test_procrustes_takes_out_any_similarity(seed):
    generator = torch.Generator().manual_seed(seed)
    annotated = points_of(6, 21, 3, seed=seed).double()
    turn = torch.linalg.qr(torch.randn(6, 3, 3, generator=generator, dtype=torch.double)).Q
    turn = turn * torch.linalg.det(turn)[:, None, None]
    factor = torch.tensor([1e-12, 1e-3, 0.3, 1, 40, 1e9], dtype=torch.double)[:, None, None]
    predicted = factor * (annotated @ turn.mT + torch.randn(6, 1, 3, generator=generator, dtype=torch.double))
    errors, counts = point_errors_mm(predicted, annotated, everywhere(annotated), "procrustes")
    assert counts.all()
    assert errors.max() < 1e-6


def test_procrustes_does_not_mirror():
    annotated = points_of(1, 21, 3)
    mirrored, flat = annotated * torch.tensor([-1.0, 1, 1]), annotated * torch.tensor([1.0, 1, 0])
    errors, _ = point_errors_mm(mirrored, annotated, everywhere(annotated), "procrustes")
    assert errors.mean() > 10
    errors, _ = point_errors_mm(mirrored * torch.tensor([1.0, 1, 0]), flat, everywhere(flat), "procrustes")
    assert errors.max() < 1e-6


@pytest.mark.parametrize("magnitude", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("alignment", ["centroid_scale", "procrustes"])
def test_predicted_points_that_coincide_lie_on_the_centroid(magnitude, alignment):
    annotated = points_of(2, 21, 3)
    predicted = (magnitude * points_of(2, 1, 3, seed=1, scale=1.0)).expand(-1, 21, -1)
    for values in (predicted, predicted.double() / 3):
        errors, counts = point_errors_mm(values, annotated, everywhere(annotated), alignment)
        assert counts.all()
        target = annotated.double().numpy()
        expected = 1000 * np.linalg.norm(target - target.mean(1, keepdims=True), axis=2)
        np.testing.assert_allclose(errors, expected, rtol=1e-6)


def test_procrustes_of_collinear_points_is_a_regression_along_the_line():
    generator = torch.Generator().manual_seed(1)
    along_p, along_a = torch.randn(2, 8, 21, generator=generator, dtype=torch.double)
    directions = torch.nn.functional.normalize(torch.randn(2, 8, 1, 3, generator=generator, dtype=torch.double), dim=-1)
    predicted, annotated = along_p[..., None] * directions[0], along_a[..., None] * directions[1]
    errors, counts = point_errors_mm(predicted, annotated, everywhere(predicted), "procrustes")
    assert counts.all()
    p, a = (values.numpy() - values.numpy().mean(1, keepdims=True) for values in (along_p, along_a))
    slope = (p * a).sum(1, keepdims=True) / (p * p).sum(1, keepdims=True)
    np.testing.assert_allclose(errors, 1000 * np.abs(a - slope * p), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_what_is_not_valid_changes_nothing(alignment):
    predicted, annotated = points_of(3, 21, 3), points_of(3, 21, 3, seed=1)
    valid = everywhere(predicted)
    valid[:, [2, 5, 17]] = False
    valid[1] = False
    errors, counts = point_errors_mm(predicted, annotated, valid, alignment)
    spoiled_p = torch.where(valid[..., None], predicted, -7e3)
    spoiled_a = torch.where(valid[..., None], annotated, 1e30)
    spoiled, spoiled_counts = point_errors_mm(spoiled_p, spoiled_a, valid, alignment)
    assert torch.equal(counts, valid)
    assert torch.equal(spoiled_counts, valid)
    assert torch.equal(spoiled, errors)
    assert errors[~valid].eq(0).all()


@pytest.mark.parametrize("alignment", ["root", "root_scale"])
def test_vertices_have_no_root(alignment):
    vertices = points_of(1, 778, 3)
    with pytest.raises(ValueError, match="is for the 21 joints, got 778 points; choose"):
        point_errors_mm(vertices, vertices, everywhere(vertices), alignment)


def test_an_unknown_alignment_is_refused_with_those_there_are():
    points = points_of(1, 21, 3)
    message = "one of none, root, root_scale, centroid_scale, procrustes, got 'wrist'"
    with pytest.raises(ValueError, match=message):
        align(points, points, everywhere(points), "wrist")


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_refused(alignment, value):
    predicted = points_of(4, 21, 3)
    predicted[3, 2, 1] = value
    with pytest.raises(ValueError, match="1 of 252 predicted numbers are not finite"):
        align(predicted, points_of(4, 21, 3), everywhere(predicted), alignment)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_batch_of_nothing(alignment):
    nothing = torch.zeros(0, 21, 3)
    errors, counts = point_errors_mm(nothing, nothing, everywhere(nothing), alignment)
    assert errors.shape == counts.shape == (0, 21)
