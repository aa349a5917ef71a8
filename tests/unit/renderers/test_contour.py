import copy
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from hamr_lightning import build
from hamr_lightning.renderers import _contour_cpu
from hamr_lightning.renderers.contour import ContourRenderer
from silhouettes import CUBE, CUBE_VERTICES, TETRAHEDRON, hand_faces, posed_hands

OCTAHEDRON_VERTICES = np.concatenate([np.eye(3), -np.eye(3)])
OCTAHEDRON = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
TETRAHEDRON_VERTICES = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
SQUARE_VERTICES = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
SQUARE = np.array([[0, 1, 2], [0, 2, 3]])
SOLIDS = {
    "cube": (CUBE_VERTICES, CUBE),
    "tetrahedron": (TETRAHEDRON_VERTICES, TETRAHEDRON),
    "octahedron": (OCTAHEDRON_VERTICES, OCTAHEDRON),
    "square plate": (SQUARE_VERTICES, SQUARE),
}


def at_random(vertices, count=16, scale=0.45):
    """Return the vertices turned and shifted at random, within the frame: (count, v, 3)."""
    turned = np.einsum("bij,vj->bvi", Rotation.random(count, random_state=0).as_matrix(), vertices * scale)
    return torch.tensor(turned + np.random.default_rng(0).uniform(-0.2, 0.2, (count, 1, 3)))


def test_is_registered():
    renderer = build("renderer", "contour", faces=hand_faces(), size=32)
    assert renderer(posed_hands(2)).shape == (2, 32, 32)


@pytest.mark.parametrize("solid", SOLIDS)
def test_covers_exactly_the_area_of_a_convex_solid(solid):
    vertices, faces = SOLIDS[solid]
    points = at_random(vertices)
    masks = ContourRenderer(faces, 24)(points)
    expected = [ConvexHull(sample[:, :2]).volume for sample in points.numpy()]  # of a polygon, its area
    np.testing.assert_allclose(masks.sum((1, 2)) * (2 / 24) ** 2, expected, rtol=0, atol=1e-6)


def test_float32_covers_the_same_area():
    points = at_random(CUBE_VERTICES)
    renderer = ContourRenderer(CUBE, 24)
    assert renderer(points.float()).dtype == torch.float32
    torch.testing.assert_close(renderer(points.float()).double(), renderer(points), rtol=0, atol=2e-6)


def test_rows_run_down_and_columns_right():
    corner = (torch.tensor(CUBE_VERTICES) * 0.25 + torch.tensor([-0.75, 0.25, 0.0]))[None]
    expected = torch.zeros(1, 8, 8, dtype=torch.float64)
    expected[0, 4:6, 0:2] = 1
    torch.testing.assert_close(ContourRenderer(CUBE, 8)(corner), expected, rtol=0, atol=0)


def test_pixels_hold_the_share_covered():
    box = (torch.tensor(CUBE_VERTICES) * torch.tensor([0.5 + 1 / 16, 0.5, 1.0]) + torch.tensor([1 / 16, 0.0, 0.0]))[
        None
    ]
    row = torch.tensor([0, 0, 1, 1, 1, 1, 0.5, 0], dtype=torch.float64)
    torch.testing.assert_close(ContourRenderer(CUBE, 8)(box)[0, 3], row, rtol=0, atol=1e-12)


def test_edge_along_a_border_between_pixels_has_the_gradient_of_one_side():
    cube = (torch.tensor(CUBE_VERTICES) * 0.5)[None].requires_grad_()
    ContourRenderer(CUBE, 8)(cube).sum().backward()
    outwards = (cube.grad * torch.tensor(CUBE_VERTICES)).sum((0, 1))
    # Moving either side of the square outwards by 1 crop unit adds 4 rows of 4 pixels.
    torch.testing.assert_close(outwards, torch.tensor([32.0, 32.0, 0.0], dtype=torch.float64))


def test_way_the_triangles_face_does_not_matter():
    points = posed_hands(4)
    mask = ContourRenderer(hand_faces(), 32)(points)
    turned = ContourRenderer(hand_faces()[:, ::-1].copy(), 32)(points)
    torch.testing.assert_close(turned, mask, rtol=0, atol=1e-6)
    mirrored = ContourRenderer(hand_faces(), 32)(points * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(mirrored.flip(2), mask, rtol=0, atol=1e-6)


def test_opening_is_closed():
    points = at_random(CUBE_VERTICES)
    lidless = CUBE[(CUBE_VERTICES[CUBE][..., 2] < 0).any(1)]
    assert len(lidless) == 10
    torch.testing.assert_close(ContourRenderer(lidless, 16)(points), ContourRenderer(CUBE, 16)(points))


def test_hand_with_its_wrist_closed_is_a_sphere():
    renderer = ContourRenderer(hand_faces())
    assert (len(renderer.faces), len(renderer.edges)) == (1552, 2328)
    assert 778 - len(renderer.edges) + len(renderer.faces) == 2


def test_each_opening_is_closed_by_itself():
    tube = np.array(
        [[i, (i + 1) % 4, (i + 1) % 4 + 4] for i in range(4)] + [[i, (i + 1) % 4 + 4, i + 4] for i in range(4)]
    )
    assert len(ContourRenderer(tube).faces) == 8 + 2 + 2


def test_triangles_without_area_change_nothing():
    points = at_random(CUBE_VERTICES)
    split = np.concatenate([CUBE[1:], [[*CUBE[0, :2], 8], [*CUBE[0, 1:], 8], [CUBE[0, 2], CUBE[0, 0], 8], [3, 3, 5]]])
    for vertex in range(8):
        more = torch.cat([points, points[:, vertex : vertex + 1]], 1)
        torch.testing.assert_close(ContourRenderer(split, 16)(more), ContourRenderer(CUBE, 16)(points))


def test_depth_has_no_gradient():
    points = posed_hands(2).clone().requires_grad_()
    ContourRenderer(hand_faces(), 16)(points).square().sum().backward()
    assert points.grad[..., :2].abs().amax((1, 2)).min() > 1
    assert (points.grad[..., 2] == 0).all()


def test_gradient_passes_gradcheck():
    points = at_random(OCTAHEDRON_VERTICES, count=3).requires_grad_()
    assert torch.autograd.gradcheck(ContourRenderer(OCTAHEDRON, 6), points, eps=1e-7, atol=1e-5)


def test_gradient_of_a_mesh_half_outside_passes_gradcheck():
    points = (at_random(OCTAHEDRON_VERTICES, count=3, scale=1.3) + torch.tensor([0.4, -0.5, 0.0])).requires_grad_()
    assert torch.autograd.gradcheck(ContourRenderer(OCTAHEDRON, 6), points, eps=1e-7, atol=1e-5)


def test_descent_on_l1_fits_place_and_size():
    renderer, hand = ContourRenderer(hand_faces(), 32), posed_hands(2)[:1]
    target = renderer(hand)
    shift, log_scale = torch.tensor([0.2, -0.25, 0.0], requires_grad=True), torch.tensor(-0.4, requires_grad=True)
    optimizer = torch.optim.Adam([shift, log_scale], lr=0.03)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.03 * 0.96**step
        optimizer.zero_grad()
        loss = (renderer(hand * log_scale.exp() + shift) - target).abs().mean()
        loss.backward()
        optimizer.step()
    assert shift.abs().max() < 0.01
    assert log_scale.abs() < 0.02


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sample_that_is_not_finite_is_nan_alone(value, axis):
    points = posed_hands(3).clone()
    points[1, 5, axis] = value
    points.requires_grad_()
    mask = ContourRenderer(hand_faces(), 16)(points)
    mask.sum().backward()
    assert mask[1].isnan().all()
    assert points.grad[1, :, :2].isnan().all()
    torch.testing.assert_close(mask[[0, 2]], ContourRenderer(hand_faces(), 16)(points[[0, 2]]))
    assert points.grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("far", [1e6, 1e30, 1e38])
def test_far_off_meshes(far):
    renderer = ContourRenderer(CUBE, 16)
    cube = torch.tensor(CUBE_VERTICES, dtype=torch.float32)
    beside = [cube + torch.tensor(shift) * far for shift in ([1.0, 0, 0], [-1.0, 0, 0], [0.0, 1, 0], [0.0, -1, 0])]
    points = torch.stack([*beside, cube * far]).requires_grad_()
    masks = renderer(points)
    assert (masks[:4] == 0).all()
    assert (masks[4] == 1).all()
    masks.sum().backward()
    assert (points.grad == 0).all()


def test_long_edges_through_the_frame():
    wedge = torch.tensor(
        [[0.0, 0.0, 0.0], [1e12, -1e12, 0.0], [1e12, 1e12, 1.0], [1e12, 0.0, 2.0]], dtype=torch.float64
    )
    mask = ContourRenderer(TETRAHEDRON, 8)(wedge[None])[0]
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    above, below = (x - 4) - (3 - y), (x - 4) - (y - 4)
    expected = torch.where((above > 0) & (below > 0), 1.0, torch.where((above == 0) | (below == 0), 0.5, 0.0))
    expected = torch.where((above < 0) | (below < 0), 0.0, expected).double()
    torch.testing.assert_close(mask, expected, rtol=0, atol=1e-5)


def test_half_precision_and_autocast_give_float32():
    points, renderer = posed_hands(2), ContourRenderer(hand_faces(), 16)
    assert renderer(points.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(renderer(points), renderer(points.float()), rtol=0, atol=0)


def test_empty_batch():
    assert ContourRenderer(CUBE, 16)(torch.zeros(0, 8, 3)).shape == (0, 16, 16)


def test_points_that_no_face_names_are_ignored():
    points = at_random(CUBE_VERTICES).float()
    more = torch.cat([points, torch.zeros(16, 5, 3)], 1)
    torch.testing.assert_close(ContourRenderer(CUBE, 16)(more), ContourRenderer(CUBE, 16)(points), rtol=0, atol=0)


def test_compiles_without_a_graph_break():
    renderer = ContourRenderer(hand_faces(), 16)
    forward = inspect.unwrap(ContourRenderer.forward)  # torch.compile cannot trace the tests' shape checks

    def loss(points):
        return (forward(renderer, points * 1.1) - 0.5).abs().sum()

    points = [posed_hands(3).clone().requires_grad_() for _ in range(2)]
    eager, compiled = loss(points[0]), torch.compile(loss, fullgraph=True, backend="aot_eager")(points[1])
    eager.backward()
    compiled.backward()
    torch.testing.assert_close(compiled, eager)
    torch.testing.assert_close(points[1].grad, points[0].grad)


def test_operator_is_registered_in_full():
    renderer, points = ContourRenderer(CUBE, 8), at_random(CUBE_VERTICES, 2).requires_grad_()
    operator = torch.ops.hamr_lightning.contour_coverage.default
    torch.library.opcheck(operator, (points, renderer.faces, renderer.edges, 8))


def test_gradient_needs_no_room_for_its_records(monkeypatch):
    points, weights = posed_hands(3).clone().requires_grad_(), torch.rand(3, 32, 32)
    points.data[1, 0, 0] = torch.nan
    gradients = []
    for room in (2000, 50, 0):
        monkeypatch.setattr(_contour_cpu, "_room", lambda size, room=room: room)
        mask = ContourRenderer(hand_faces(), 32)(points)
        gradients.append(torch.autograd.grad(mask, points, weights)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=0, atol=0, equal_nan=True)


def test_going_back_twice_through_copies_gives_the_same_gradient():
    renderer, points = ContourRenderer(hand_faces(), 16), posed_hands(3).clone().requires_grad_()
    expected = None
    for one in (renderer, copy.deepcopy(renderer), pickle.loads(pickle.dumps(renderer))):
        mask = one(points)
        for _ in range(2):
            (gradient,) = torch.autograd.grad(mask, points, torch.ones_like(mask), retain_graph=True)
            expected = gradient if expected is None else expected
            torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_adds_nothing_to_checkpoints():
    assert not ContourRenderer(CUBE).state_dict()


def test_threads_change_nothing():
    renderer, points = ContourRenderer(hand_faces(), 16), posed_hands(24)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = renderer(points)
        torch.set_num_threads(4)
        torch.testing.assert_close(renderer(points), alone, rtol=0, atol=0)
        with ThreadPoolExecutor(8) as pool:
            for mask in pool.map(renderer, [points] * 32):
                torch.testing.assert_close(mask, alone, rtol=0, atol=0)
    finally:
        torch.set_num_threads(threads)


FORK = """
import multiprocessing, sys
import numpy as np, torch
from hamr_lightning.renderers import _contour_kernels
from hamr_lightning.renderers.contour import ContourRenderer

assert not _contour_kernels.coverage.signatures, "importing compiled a kernel"
torch.set_num_threads(3)
renderer = ContourRenderer(np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]), 16)
points = torch.rand(40, 4, 3)
expected = renderer(points).numpy()

def check():
    sys.exit(not np.array_equal(renderer(points).numpy(), expected))

child = multiprocessing.get_context("fork").Process(target=check)
child.start()
child.join(60)
sys.exit(child.exitcode)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_works_after_a_fork_and_compiles_late():
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([[0, 1, 2], [1, 2, 3]], "face the same way"),
        ([[0, 1, 2], [0, 1, 3]], "between the vertices 0 and 1"),
        ([[0, 1, -2]], "at least 0"),
        ([[0, 1, 1]], "at least one triangle"),
    ],
)
def test_faces_that_are_no_oriented_surface_are_refused(faces, message):
    with pytest.raises(ValueError, match=message):
        ContourRenderer(np.array(faces))


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        ContourRenderer(CUBE, 0)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="8 vertices, but points has only 7"):
        ContourRenderer(CUBE)(torch.zeros(1, 7, 3))
