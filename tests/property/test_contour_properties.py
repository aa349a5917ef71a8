"""What holds for every silhouette, on tetrahedra that meet, coincide and lie on the grid's own lines."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hamr_lightning.renderers.contour import ContourRenderer
from silhouettes import TETRAHEDRON, sampled_coverage

SIZE = 6
COUNT = 3
RENDERER = ContourRenderer(np.concatenate([TETRAHEDRON + 4 * i for i in range(COUNT)]), SIZE)
ONE = ContourRenderer(TETRAHEDRON, SIZE)

on_grid = arrays(np.int64, (COUNT * 4, 3), elements=st.integers(-6, 2 * SIZE + 6)).map(lambda halves: halves / SIZE - 1)
anywhere = arrays(np.float64, (COUNT * 4, 3), elements=st.floats(-1.5, 1.5))
meshes = st.one_of(on_grid, anywhere)
stacked = st.tuples(meshes, st.lists(st.integers(0, COUNT * 4 - 1), min_size=COUNT * 4, max_size=COUNT * 4)).map(
    lambda mesh_and_order: mesh_and_order[0][mesh_and_order[1]]
)
any_mesh = st.one_of(meshes, stacked)


def render(points):
    return RENDERER(torch.tensor(points)[None])[0]


@settings(max_examples=60, deadline=None)
@given(any_mesh)
def test_it_is_the_union_of_the_triangles(points):
    sampled = sampled_coverage(points, RENDERER.faces.numpy(), SIZE, fold=64)
    assert np.abs(render(points).numpy() - sampled).max() < 0.02


@settings(max_examples=100, deadline=None)
@given(any_mesh)
def test_it_lies_between_the_largest_part_and_the_sum_of_the_parts(points):
    mask = render(points)
    parts = ONE(torch.tensor(points.reshape(COUNT, 4, 3)))
    assert mask.min() >= 0
    assert (mask - parts.amax(0)).min() > -1e-5
    assert (mask - parts.sum(0).clamp(max=1)).max() < 1e-5


@settings(max_examples=100, deadline=None)
@given(any_mesh, st.integers(-3, 3), st.integers(-3, 3))
def test_moving_it_by_whole_pixels_moves_the_mask(points, right, down):
    moved = render(points + np.array([right, down, 0]) * 2 / SIZE)
    kept = slice(max(down, 0), SIZE + min(down, 0)), slice(max(right, 0), SIZE + min(right, 0))
    source = slice(max(-down, 0), SIZE + min(-down, 0)), slice(max(-right, 0), SIZE + min(-right, 0))
    torch.testing.assert_close(moved[kept], render(points)[source], rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(any_mesh)
def test_turning_the_picture_turns_the_mask(points):
    mask = render(points)
    torch.testing.assert_close(render(points * [-1, 1, 1]), mask.flip(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(render(points[:, [1, 0, 2]]), mask.T, rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (COUNT * 4, 3), elements=st.floats(width=32)))
def test_any_numbers_give_a_mask_or_nan(points):
    tensor = torch.tensor(points)[None].requires_grad_()
    mask = RENDERER(tensor)
    mask.sum().backward()
    if np.isfinite(points).all():
        assert ((mask >= 0) & (mask <= 1)).all()
        assert tensor.grad.isfinite().all()
    else:
        assert mask.isnan().all()
        assert tensor.grad[..., :2].isnan().all()
