"""The renderer's Triton kernels against those of the CPU: on a GPU, or under Triton's interpreter (nox -s triton)."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from hamr_lightning.renderers import _contour_cpu
from hamr_lightning.renderers.contour import ContourRenderer
from silhouettes import CUBE, CUBE_VERTICES, TETRAHEDRON, hand_faces, posed_hands, sampled_coverage

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU, or Triton's interpreter (nox -s triton)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
pytest.importorskip("triton")
_contour_triton = importlib.import_module("hamr_lightning.renderers._contour_triton")

DEVICE = "cpu" if INTERPRETED else "cuda"
OCTAHEDRON_VERTICES = np.concatenate([np.eye(3), -np.eye(3)])
OCTAHEDRON = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """Make programs share a list as they do on a GPU, where a list is longer than they are many."""
    if INTERPRETED:
        monkeypatch.setattr(_contour_triton, "_CROWD_PROGRAMS", 3)


def coverage(points, renderer):
    faces, edges = renderer.faces.to(DEVICE), renderer.edges.to(DEVICE)
    return _contour_triton.coverage(points.to(DEVICE), faces, edges, renderer.size).cpu()


def assert_same(points, faces, size):
    """Compare masks and gradients with the CPU's; gradients only where there is one, not one for each side."""
    renderer = ContourRenderer(faces, size)
    weights = torch.randn(len(points), size, size, generator=torch.Generator().manual_seed(0)).to(points.dtype)
    expected_points, actual_points = points.clone().requires_grad_(), points.clone().requires_grad_()
    expected, actual = renderer(expected_points), coverage(actual_points, renderer)
    (expected * weights).sum().backward()
    (actual * weights).sum().backward()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    largest = expected_points.grad.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(actual_points.grad, expected_points.grad, rtol=0, atol=1e-5 * largest)


def several(faces, count):
    return np.concatenate([faces + (faces.max() + 1) * i for i in range(count)])


@pytest.mark.parametrize(("sample", "size"), [(0, 8), (1, 32), (2, 64)])
def test_hands(sample, size):
    assert_same(posed_hands(3)[sample : sample + 1], hand_faces(), size)


def test_hand_across_the_frame_in_float64():
    assert_same(posed_hands(4)[3:].double() * torch.tensor([1.4, 1.4, 1]) + 0.3, hand_faces(), 13)


def test_tetrahedra_that_meet():
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 12, 3))
    assert_same(torch.tensor(points), several(TETRAHEDRON, 3), 6)


@pytest.mark.parametrize("order", ["apart", "stacked"])
def test_tetrahedra_on_the_grid_that_coincide_are_the_union_of_their_triangles(order):
    random, faces = np.random.default_rng(1), several(TETRAHEDRON, 3)
    points = random.integers(-6, 18, (6, 12, 3)) / 6 - 1
    if order == "stacked":
        points = points[:, random.integers(0, 12, 12)]
    sampled = np.stack([sampled_coverage(sample, faces, 6, fold=64) for sample in points])
    renderer = ContourRenderer(faces, 6)
    mask = coverage(torch.tensor(points), renderer)
    assert np.abs(mask.numpy() - sampled).max() < 0.02
    torch.testing.assert_close(mask, renderer(torch.tensor(points)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [12, 30])
def test_crowds_of_pieces_in_a_pixel(count):
    random = np.random.default_rng(2)
    points = torch.tensor(random.uniform([0.3, 0.3, -0.2], [0.7, 0.7, 0.2], (1, count * 4, 3)))
    assert_same(points, several(TETRAHEDRON, count), 2)


def test_wide_masks_have_tiles_that_reach_out_of_the_frame():
    assert_same(torch.tensor(OCTAHEDRON_VERTICES * 1.2 + [0.3, 0.5, 0])[None], OCTAHEDRON, 140)


def test_gradient_is_that_of_finite_differences():
    renderer = ContourRenderer(several(OCTAHEDRON, 2), 4)
    random = np.random.default_rng(3)
    points = torch.tensor(random.normal(0, 0.5, (1, 12, 3))).requires_grad_()
    direction, weights = torch.tensor(random.normal(0, 1, (1, 12, 3))), torch.tensor(random.normal(0, 1, (1, 4, 4)))
    (coverage(points, renderer) * weights).sum().backward()
    with torch.no_grad():
        ahead, behind = coverage(points + 1e-6 * direction, renderer), coverage(points - 1e-6 * direction, renderer)
    expected = ((ahead - behind) / 2e-6 * weights).sum((1, 2))
    torch.testing.assert_close((points.grad * direction).sum((1, 2)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_sample_that_is_not_finite_is_nan_alone(value):
    renderer = ContourRenderer(CUBE, 16)
    points = torch.tensor(CUBE_VERTICES * 0.55, dtype=torch.float32).repeat(3, 1, 1)
    expected = renderer(points)[0]
    points[0, 5, 2], points[1, 3, 0] = value, value
    points.requires_grad_()
    mask = coverage(points, renderer)
    mask.sum().backward()
    assert mask[:2].isnan().all()
    assert points.grad[:2, :, :2].isnan().all()
    torch.testing.assert_close(mask[2], expected, rtol=0, atol=1e-6)
    assert points.grad[2].isfinite().all()


@pytest.mark.parametrize("far", [1e6, 1e30])
def test_far_off_meshes(far):
    cube = torch.tensor(CUBE_VERTICES, dtype=torch.float32)
    beside = [cube + torch.tensor(shift) * far for shift in ([1.0, 0, 0], [-1.0, 0, 0], [0.0, 1, 0], [0.0, -1, 0])]
    masks = coverage(torch.stack([*beside, cube * far]), ContourRenderer(CUBE, 16))
    assert (masks[:4] == 0).all()
    assert (masks[4] == 1).all()


def test_points_that_are_not_contiguous_and_named_by_no_face():
    points = torch.tensor(CUBE_VERTICES * 0.4)[None].expand(2, 8, 3)
    more = torch.cat([points, points[:, :2]], 1).mT.contiguous().mT
    renderer = ContourRenderer(CUBE, 8)
    torch.testing.assert_close(coverage(more, renderer), renderer(points), rtol=0, atol=1e-6)


def test_empty_batch():
    points = torch.zeros(0, 8, 3, requires_grad=True)
    mask = coverage(points, ContourRenderer(CUBE, 16))
    assert mask.shape == (0, 16, 16)
    mask.sum().backward()
    assert points.grad.shape == (0, 8, 3)


def test_compiles_without_a_graph_break():
    renderer = ContourRenderer(CUBE, 8).to(DEVICE)

    def loss(points):
        return (_contour_triton.coverage(points * 1.1, renderer.faces, renderer.edges, 8) - 0.5).abs().sum()

    points = [torch.tensor(CUBE_VERTICES * 0.4, device=DEVICE)[None].requires_grad_() for _ in range(2)]
    eager, compiled = loss(points[0]), torch.compile(loss, fullgraph=True, backend="aot_eager")(points[1])
    eager.backward()
    compiled.backward()
    torch.testing.assert_close(compiled, eager)
    torch.testing.assert_close(points[1].grad, points[0].grad)


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter runs one program after another")
def test_masks_are_the_same_in_every_run():
    renderer, points = ContourRenderer(hand_faces(), 64), posed_hands(64)
    first = coverage(points, renderer)
    for _ in range(10):
        assert torch.equal(coverage(points, renderer), first)


@pytest.mark.skipif(INTERPRETED, reason="needs an NVIDIA GPU")
def test_renderer_takes_the_kernels_on_a_gpu(monkeypatch):
    renderer, points = ContourRenderer(hand_faces(), 64), posed_hands(4)
    expected = renderer(points)
    monkeypatch.delattr(_contour_cpu, "coverage")
    torch.testing.assert_close(renderer.to(DEVICE)(points.to(DEVICE)).cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(INTERPRETED, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("size", [32, 64, 256])
def test_many_hands(size):
    assert_same(posed_hands(64), hand_faces(), size)


@pytest.mark.skipif(INTERPRETED, reason="needs an NVIDIA GPU")
def test_cuda_graph_holds_it():
    renderer = ContourRenderer(hand_faces(), 64).to(DEVICE)
    points = posed_hands(8).to(DEVICE).requires_grad_()

    def step():
        mask = _contour_triton.coverage(points, renderer.faces, renderer.edges, 64)
        return mask, torch.autograd.grad(mask.square().sum(), points)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask, gradient = step()
    with torch.no_grad():
        points.copy_(posed_hands(8, seed=1))
    graph.replay()
    expected, expected_gradient = step()
    assert torch.equal(mask, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5 * expected_gradient.abs().max().item())


AHEAD_OF_TIME = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hamr_lightning.renderers import _contour_triton as kernels

pointers = dict.fromkeys(["faces", "all_edges", "outline", "counts", "crowds"], "*i32") | {"states": "*i8"}
mesh = {"vertices": 778, "edges": 2328}
launches = {
    "_find_outline": ({"block": 1024}, 8),
    "_render_tiles": ({"tile": 8, "block": 128}, 2),
    "_render_crowds": ({"block": 128}, 1),
    "_differentiate_stretches": ({"block": 32}, 1),
    "_differentiate_crowds": ({"block": 128}, 1),
}
for size, number in ((64, "*fp32"), (256, "*fp64")):
    for name, (constants, warps) in launches.items():
        kernel = getattr(kernels, name)
        types = pointers | dict.fromkeys(["points", "masks", "weights", "gradient"], number)
        constants = mesh | constants | {"size": size}
        signature = {argument: types.get(argument, "constexpr") for argument in kernel.arg_names}
        source = ASTSource(kernel, signature, {key: constants[key] for key in signature if key in constants})
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps} | kernels._EXACT)
        assert len(built.asm["cubin"]) > 1000
        print(name)
"""


@pytest.mark.skipif(not INTERPRETED, reason="a GPU's own compilation shows more")
def test_kernels_compile_for_an_h100(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", AHEAD_OF_TIME]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 10
