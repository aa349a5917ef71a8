"""The contour renderer against 32-fold supersampling, and its gradient against central differences."""

import numpy as np
import pytest
import torch

from hamr_lightning.renderers.contour import ContourRenderer
from silhouettes import hand_faces, posed_hands, sampled_coverage, sampled_layers

SIZE = 64
HANDS = 8


@pytest.fixture(scope="module")
def renderer():
    return ContourRenderer(hand_faces(), SIZE)


@pytest.fixture(scope="module")
def points():
    return posed_hands(HANDS)


@pytest.fixture(scope="module")
def masks(renderer, points):
    return renderer(points).numpy()


@pytest.fixture(scope="module")
def sampled(renderer, points):
    return np.stack([sampled_coverage(sample, renderer.faces.numpy(), SIZE) for sample in points])


def test_masks_agree_with_supersampling(masks, sampled):
    assert np.abs(masks - sampled).mean() < 2e-4
    assert np.abs(masks - sampled).max() < 1 / 64 + 1e-6  # what 32 rows miss of an edge along them


def test_fist_and_flat_hand_agree_with_the_mesh_left_open(points, masks):
    for sample, mask in zip(points[:2], masks[:2], strict=True):
        assert np.abs(mask - sampled_coverage(sample, hand_faces(), SIZE)).mean() < 2e-3


def test_where_outlines_share_a_pixel_it_holds_their_union(renderer, points, masks):
    shared = 0
    for sample, mask in zip(points, masks, strict=True):
        rows, columns = np.nonzero((mask > 0) & (mask < 1))
        layers = sampled_layers(sample, renderer.faces.numpy(), rows, columns, SIZE, 128)
        fronts = layers // 2
        overlapping = (fronts.min((1, 2)) == 0) & (fronts.max((1, 2)) > 1)
        union, added = (fronts > 0).mean((1, 2)), fronts.mean((1, 2))
        shared += np.sum(overlapping & (added - union > 0.05))
        np.testing.assert_allclose(mask[rows, columns], union, rtol=0, atol=1 / 256 + 1e-4)
    assert shared > 20


@pytest.mark.parametrize("weights", ["smooth", "random"])
def test_gradient_agrees_with_central_differences(renderer, points, weights):
    random = np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE))
    weight = np.cos(3 * x) * np.sin(2 * y - 1) + x if weights == "smooth" else random.normal(size=(SIZE, SIZE))
    weight = torch.tensor(weight)
    points = points.double().requires_grad_()
    (gradient,) = torch.autograd.grad((renderer(points) * weight).sum(), points)
    step = 1e-8
    for _ in range(3):
        direction = torch.tensor(random.normal(size=points.shape))
        with torch.no_grad():
            ahead, behind = renderer(points + step * direction), renderer(points - step * direction)
        expected = ((ahead - behind) * weight).sum((1, 2)) / (2 * step)
        scale = gradient.square().sum((1, 2)).sqrt()
        assert ((gradient * direction).sum((1, 2)) - expected).abs().div(scale).max() < 1e-5


def test_gradient_of_single_vertices_agrees_with_central_differences(renderer, points):
    random = np.random.default_rng(2)
    weight = torch.tensor(random.normal(size=(SIZE, SIZE)))
    fist = points[:1].double().requires_grad_()
    (gradient,) = torch.autograd.grad((renderer(fist) * weight).sum(), fist)
    moved = random.choice(torch.nonzero(gradient[0, :, 0]).flatten().numpy(), 20, replace=False)
    for axis in (0, 1):
        steps = torch.zeros(20, *fist.shape[1:], dtype=torch.float64)
        steps[range(20), moved, axis] = 1e-7
        with torch.no_grad():
            expected = ((renderer(fist + steps) - renderer(fist - steps)) * weight).sum((1, 2)) / 2e-7
        torch.testing.assert_close(gradient[0, moved, axis], expected, rtol=1e-5, atol=1e-4)
