"""Differentiable silhouettes from exact areas: the outline of a closed mesh, cut at the pixels' borders."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from hamr_lightning.registry import register
from hamr_lightning.renderers import _contour_cpu
from hamr_lightning.renderers.base import SilhouetteRenderer

try:
    from hamr_lightning.renderers._contour_triton import coverage as _gpu_coverage
except ImportError:  # Triton comes with PyTorch's builds for GPUs
    _gpu_coverage = _contour_cpu.coverage


@register("renderer", "contour")
class ContourRenderer(SilhouetteRenderer):
    """Renders the share of each pixel that a mesh covers, with its exact gradient.

    The front-facing triangles of a closed mesh cover what all its triangles cover, and are bounded by the edges between
    them and the others: the outline. These edges are cut at the borders of the pixels. In each pixel, the pieces that
    have no layer of the mesh on one side bound the silhouette: they give the area covered, and the area that they sweep
    when their end points move gives the gradient.

    Where several outlines share a pixel (a finger's edge before another finger's edge), they are intersected in it: the
    area is that of their union, and what lies behind or before another part gets no gradient. Mask and gradient are
    thus exact but for rounding, with one exception: a pixel crossed by more than 64 pieces that are not one plain
    stretch, as under a hand a few pixels wide or a crumpled mesh, takes the areas' sum, cut off at 1. The mask is not
    smooth where an edge runs along a border between pixels or vertices cross an outline; the gradient is one side's.

    Openings of the mesh, such as a hand's wrist, are closed by fans of their own vertices. It does not matter which way
    the triangles face, as long as neighbours agree.

    The work is done in float64, on a GPU by Triton's kernels, which need no host in between and so may be captured in a
    CUDA graph; the gradient may differ in its last bits from run to run there. Otherwise it is done on the CPU, by up
    to ``torch.get_num_threads()`` threads; without Triton, tensors on a GPU are copied there and back. The first call
    compiles for some seconds and keeps the result on disk.

    Args:
        faces: Triangles as indices of vertices. Those that name a vertex twice are left out.
        size: The side of the mask in pixels.

    Raises:
        ValueError: If ``faces`` are not indices of triangles, or of triangles whose neighbours face another way, or
            ``size`` is less than 1.
    """

    faces: Tensor
    edges: Tensor

    def __init__(self, faces: Int[Tensor, "f 3"] | Int[np.ndarray, "f 3"], size: int = 64) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"ContourRenderer: size must be at least 1, got {size}")
        closed, edges = _closed_surface(np.asarray(faces.cpu() if isinstance(faces, Tensor) else faces))
        self.size = size
        self.vertices = int(closed.max()) + 1
        self.register_buffer("faces", torch.from_numpy(closed.astype(np.int32)), persistent=False)
        self.register_buffer("edges", torch.from_numpy(edges.astype(np.int32)), persistent=False)

    def forward(self, points: Float[Tensor, "b v 3"]) -> Float[Tensor, "b s s"]:
        """Render the mask.

        Args:
            points: Vertices, in the frame or out of it: x and y in crop units, and z, which does not matter.

        Returns:
            Coverage in [0, 1], row 0 at the top (y = -1), differentiable in x and y once; in float64 for float64
            points, else in float32, under autocast too. Where a sample has a coordinate that is not finite, all of its
            mask is NaN, and its gradient as well.

        Raises:
            ValueError: If there are fewer points than ``faces`` name.
        """
        if points.shape[1] < self.vertices:
            raise ValueError(
                f"ContourRenderer: faces name {self.vertices} vertices, but points has only {points.shape[1]}"
            )
        points = points if points.dtype == torch.float64 else points.float()
        coverage = _gpu_coverage if points.is_cuda else _contour_cpu.coverage
        return coverage(points, self.faces, self.edges, self.size)


def _closed_surface(faces: Int[np.ndarray, "f 3"]) -> tuple[Int[np.ndarray, "g 3"], Int[np.ndarray, "e 4"]]:
    """Cap the openings of a surface.

    Returns:
        The faces, with those of the caps, and for each edge its vertices u and v, the face that runs from u to v and
        the one that runs from v to u.
    """
    if not np.issubdtype(faces.dtype, np.integer) or faces.ndim != 2 or faces.shape[1] != 3 or faces.min(initial=0) < 0:
        raise ValueError(
            "ContourRenderer: faces must be indices, integers of shape (f, 3) and at least 0, "
            f"got {faces.dtype} of shape {faces.shape}, least {faces.min(initial=0)}"
        )
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)].astype(np.int64)
    if len(faces) == 0:
        raise ValueError("ContourRenderer: faces must hold at least one triangle of three different vertices")
    directed = _directed_edges(faces)
    _, edge, uses = np.unique(np.sort(directed), axis=0, return_inverse=True, return_counts=True)
    balance = np.bincount(edge, np.where(directed[:, 0] < directed[:, 1], 1, -1))
    if (wrong := (balance != 0) & (uses > 1)).any():
        u, v = directed[np.argmax(wrong[edge])]
        raise ValueError(
            f"ContourRenderer: {wrong.sum()} edges of faces, the first between the vertices {u} and {v}, are used more "
            "often in one direction than in the other; turn the triangles so that neighbours face the same way"
        )
    faces = np.concatenate([faces, _caps(directed[uses[edge] == 1])])
    directed, owner = _directed_edges(faces), np.tile(np.arange(len(faces)), 3)
    forth, back = np.lexsort(directed.T), np.lexsort(directed[:, ::-1].T)
    up = directed[forth, 0] < directed[forth, 1]
    return faces, np.column_stack([directed[forth[up]], owner[forth[up]], owner[back[up]]])


def _directed_edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "e 2"]:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _caps(boundary: Int[np.ndarray, "e 2"]) -> Int[np.ndarray, "c 3"]:
    """Close each connected boundary with a fan from one of its own vertices."""
    u, v = boundary.T
    count = boundary.max(initial=0) + 1
    _, loop = connected_components(coo_matrix((np.ones(len(u)), (u, v)), (count, count)), directed=False)
    _, apexes = np.unique(loop, return_index=True)
    apex = apexes[loop[u]]
    return np.column_stack([v, u, apex])[(u != apex) & (v != apex)]
