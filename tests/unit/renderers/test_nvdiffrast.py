"""The nvdiffrast renderer: on a CPU with a stand-in for the package, made after its documentation; on a GPU with it."""

import copy
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from hamr_lightning.errors import UserError
from hamr_lightning.renderers import nvdiffrast as plugin
from hamr_lightning.renderers.contour import ContourRenderer
from hamr_lightning.renderers.nvdiffrast import NvdiffrastRenderer
from silhouettes import CUBE, CUBE_VERTICES, TETRAHEDRON, hand_faces, posed_hands


class StandIn(ModuleType):
    """``nvdiffrast.torch`` for CPU tensors.

    Clip coordinates have x to the right and y up, and the first row of an image is its lowest. Antialiasing goes over
    neighbours of which one is empty: where an edge of the other's triangle that is a silhouette crosses the line
    between their centres, the nearer of both is blended.
    """

    def __init__(self):
        super().__init__("nvdiffrast.torch")
        self.contexts, self.topologies = [], []

    def RasterizeCudaContext(self, device=None):  # noqa: N802
        self.contexts.append(device)
        return "context"

    def antialias_construct_topology_hash(self, tri):
        self.topologies.append(tri)
        owners = {(t[k], t[(k + 1) % 3]): t[(k + 2) % 3] for t in tri.tolist() for k in range(3)}
        wings = [[owners.get((t[(k + 1) % 3], t[k]), t[(k + 2) % 3]) for k in range(3)] for t in tri.tolist()]
        return torch.tensor(wings)

    def rasterize(self, context, pos, tri, resolution, ranges=None, grad_db=True):
        assert context == "context"
        assert pos.dtype == torch.float32
        assert tri.dtype == torch.int32
        assert pos.is_contiguous()
        assert tri.is_contiguous()
        fragments = torch.stack([rasterized(sample.numpy(), tri.numpy(), *resolution) for sample in pos])
        return fragments, None

    def antialias(self, color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0):
        height, width = rast.shape[1:3]
        places = (pos[..., :2] + 1) * torch.tensor([width, height]) / 2 - 0.5
        images = []
        for image, fragments, xy in zip(color[..., 0], rast, places, strict=True):
            triangle = fragments[..., 3].long() - 1
            across = blended(triangle, xy, tri.long(), topology_hash)
            down = blended(triangle.T, xy.flip(1), tri.long(), topology_hash)
            images.append(image + across + down.T)
        return torch.stack(images)[..., None]


def rasterized(clip, faces, height, width):
    assert (clip[:, 3] == 1).all()
    assert (np.abs(clip[:, 2]) < 1).all()
    fragments, depths = torch.zeros(height, width, 4), np.full((height, width), np.inf)
    column, row = (clip[:, 0] + 1) * width / 2 - 0.5, (clip[:, 1] + 1) * height / 2 - 0.5
    for index, face in enumerate(faces):
        columns = np.arange(max(int(np.ceil(column[face].min())), 0), min(int(column[face].max()), width - 1) + 1)
        rows = np.arange(max(int(np.ceil(row[face].min())), 0), min(int(row[face].max()), height - 1) + 1)
        if not len(columns) or not len(rows):
            continue
        (x0, x1, x2), (y0, y1, y2) = column[face], row[face]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        x, y = np.meshgrid(columns, rows)
        second = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
        third = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
        depth = clip[face, 2] @ np.stack([1 - second - third, second, third]).reshape(3, -1)
        depth = depth.reshape(x.shape)
        inside = (second >= 0) & (third >= 0) & (second + third <= 1) & (depth < depths[y, x])
        depths[y[inside], x[inside]] = depth[inside]
        fragments[y[inside], x[inside], 3] = index + 1.0
    return fragments


def blended(triangle, xy, faces, wings):
    """Return what antialiasing along the rows adds."""
    added = torch.zeros(triangle.shape)
    for step in (1, -1):
        beside = triangle.roll(-step, 1)
        beside[:, -1 if step == 1 else 0] = 0
        row, column = torch.nonzero((triangle >= 0) & (beside < 0), as_tuple=True)
        taken = torch.zeros(len(row), dtype=torch.bool)
        own = triangle[row, column]
        for k in range(3):
            (ax, ay), (bx, by) = xy[faces[own, k]].T, xy[faces[own, (k + 1) % 3]].T
            sides = [
                (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                for x, y in (xy[faces[own, (k + 2) % 3]].T, xy[wings[own, k]].T)
            ]
            crosses = ((ay - row) * (by - row) < 0) & ((by - ay).abs() >= (bx - ax).abs())
            crosses = crosses & (sides[0] * sides[1] >= 0) & ~taken
            at = ax + (row - ay) * (bx - ax) / torch.where(crosses, by - ay, 1.0)
            along = (at - column) * step
            crosses = crosses & (along > -1 / 16) & (along < 17 / 16)
            taken = taken | crosses
            share = torch.where(crosses, along.clamp(0, 1) - 0.5, 0.0)
            added = added.index_put((row, column), share.clamp(max=0), accumulate=True)
            added = added.index_put((row, column + step), share.clamp(min=0), accumulate=True)
    return added


@pytest.fixture
def package(monkeypatch):
    parent, module = ModuleType("nvdiffrast"), StandIn()
    parent.torch = module
    monkeypatch.setitem(sys.modules, "nvdiffrast", parent)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    monkeypatch.setattr(plugin, "_require_cuda", lambda points: None)
    return module


def gradient_of(renderer, points, weights):
    points = points.clone().requires_grad_()
    (renderer(points) * weights).sum().backward()
    return points.grad


def affine_cosine(a, b, points):
    """Compare gradients by moves of whole hands: nvdiffrast's by single vertices depend on the pixels' centres."""
    axes = torch.cat([points[..., :2], torch.ones_like(points[..., 2:])], 2)
    moves = [torch.einsum("bvi,bvj->bij", gradient[..., :2], axes).flatten(1) for gradient in (a, b)]
    return torch.nn.functional.cosine_similarity(*moves, dim=1)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("size", [64, 37])
def test_hands_are_as_contour_has_them(size):
    points = posed_hands(3)
    mask, expected = NvdiffrastRenderer(hand_faces(), size)(points), ContourRenderer(hand_faces(), size)(points)
    assert mask.shape == (3, size, size)
    assert mask.dtype == torch.float32
    assert 0 <= mask.min() < mask.max() <= 1
    assert (mask - expected).abs().mean() < 0.64 / size


@pytest.mark.usefixtures("package")
def test_gradient_points_where_contour_s_does():
    points = posed_hands(3)
    target = ContourRenderer(hand_faces(), 64)(points * 1.1 + torch.tensor([0.1, -0.05, 0]))
    weights = ContourRenderer(hand_faces(), 64)(points) - target
    gradients = [gradient_of(kind(hand_faces(), 64), points, weights) for kind in (NvdiffrastRenderer, ContourRenderer)]
    assert affine_cosine(*gradients, points).mean() > 0.9
    assert (gradients[0][..., 2] == 0).all()


@pytest.mark.usefixtures("package")
def test_rows_run_down_and_columns_right():
    corner = (torch.tensor(CUBE_VERTICES) * 0.25 + torch.tensor([-0.75, 0.25, 0.0]))[None]
    expected = torch.zeros(1, 8, 8)
    expected[0, 4:6, 0:2] = 1
    torch.testing.assert_close(NvdiffrastRenderer(CUBE, 8)(corner), expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("package")
def test_nearer_surface_has_less_depth():
    clip = plugin._clip_coordinates(torch.tensor([[[0.0, 5, 1e38], [0, 0, -1e38], [9, 0, 0]], [[0.0, 0, 2]] * 3]))
    assert clip[0, :, 2].tolist() == pytest.approx([0.9, -0.9, 0])
    assert clip[1, :, 2].tolist() == pytest.approx([-0.9] * 3)
    assert clip[0, :, :2].tolist() == [[0, 5], [0, 0], [9, 0]]


def test_context_and_topology_are_made_once(package):
    renderer = NvdiffrastRenderer(TETRAHEDRON, 16)
    assert not package.contexts
    for count in (1, 3):
        renderer(torch.rand(count, 4, 3))
    assert len(package.contexts) == len(package.topologies) == 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda renderer: pickle.loads(pickle.dumps(renderer))])
def test_copies_make_their_own_context(package, again):
    renderer, points = NvdiffrastRenderer(TETRAHEDRON, 16), torch.rand(2, 4, 3)
    expected = renderer(points)
    assert torch.equal(again(renderer)(points), expected)
    assert len(package.contexts) == 2
    assert torch.equal(renderer(points), expected)
    assert len(package.contexts) == 2


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("axis", [0, 2])
def test_sample_that_is_not_finite_is_nan_alone(value, axis):
    points, renderer = torch.rand(3, 4, 3), NvdiffrastRenderer(TETRAHEDRON, 16)
    points[1, 2, axis] = value
    weights = torch.rand(3, 16, 16)
    mask, gradient = renderer(points), gradient_of(renderer, points, weights)
    assert mask[1].isnan().all()
    assert gradient[1, :, :2].isnan().all()
    assert torch.equal(mask[[0, 2]], renderer(points[[0, 2]]))
    assert torch.equal(gradient[[0, 2]], gradient_of(renderer, points[[0, 2]], weights[[0, 2]]))


@pytest.mark.usefixtures("package")
def test_half_precision_and_autocast_reach_nothing():
    points, renderer = torch.rand(2, 4, 3).bfloat16(), NvdiffrastRenderer(TETRAHEDRON, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(renderer(points), renderer(points.float()))


@pytest.mark.usefixtures("package")
def test_empty_batch():
    points = torch.zeros(0, 4, 3, requires_grad=True)
    mask = NvdiffrastRenderer(TETRAHEDRON, 16)(points)
    assert mask.shape == (0, 16, 16)
    mask.sum().backward()


@pytest.mark.usefixtures("package")
def test_adds_nothing_to_checkpoints():
    assert not NvdiffrastRenderer(CUBE).state_dict()


@pytest.mark.usefixtures("package")
def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="8 vertices, but points has only 7"):
        NvdiffrastRenderer(CUBE)(torch.zeros(1, 7, 3))


def test_points_elsewhere_than_on_a_gpu_are_refused(package, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast", ModuleType("nvdiffrast"))
    sys.modules["nvdiffrast"].torch = package
    with pytest.raises(UserError, match="needs points on a CUDA device, got cpu"):
        NvdiffrastRenderer(TETRAHEDRON)(torch.zeros(1, 4, 3))


def test_package_that_does_not_compile_is_told_of(package, monkeypatch):
    def fail(device=None):
        raise OSError("CUDA_HOME environment variable is not set")

    monkeypatch.setattr(package, "RasterizeCudaContext", fail)
    with pytest.raises(UserError, match=r"did not start: OSError: CUDA_HOME.*\n.*nvcc"):
        NvdiffrastRenderer(TETRAHEDRON)(torch.zeros(1, 4, 3))


def test_missing_package_is_told_of(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    with pytest.raises(ImportError, match=r"pip install diffrp-nvdiffrast"):
        NvdiffrastRenderer(TETRAHEDRON)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnGpu:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("nvdiffrast.torch")

    def test_hands_are_as_contour_has_them(self):
        points = posed_hands(32)
        mask = NvdiffrastRenderer(hand_faces(), 64).cuda()(points.cuda()).cpu()
        assert (mask - ContourRenderer(hand_faces(), 64)(points)).abs().mean() < 0.01

    def test_gradient_points_where_contour_s_does(self):
        points, contour = posed_hands(32), ContourRenderer(hand_faces(), 64)
        weights = contour(points) - contour(points * 1.1 + torch.tensor([0.1, -0.05, 0]))
        gradient = gradient_of(NvdiffrastRenderer(hand_faces(), 64).cuda(), points.cuda(), weights.cuda())
        expected = gradient_of(contour, points, weights)
        assert affine_cosine(gradient.cpu(), expected, points).mean() > 0.9

    def test_contexts_take_batches_of_any_number(self):
        renderer = NvdiffrastRenderer(hand_faces(), 64).cuda()
        points = posed_hands(8).cuda()
        masks = renderer(points)
        torch.testing.assert_close(renderer(points[:3]), masks[:3], rtol=0, atol=1e-6)
        torch.testing.assert_close(renderer(points), masks, rtol=0, atol=1e-6)
