"""NVIDIA's nvdiffrast as a silhouette renderer."""

from types import ModuleType
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hamr_lightning.errors import UserError
from hamr_lightning.registry import register
from hamr_lightning.renderers.base import SilhouetteRenderer
from hamr_lightning.renderers.contour import ContourRenderer


@final
@register("renderer", "nvdiffrast")
class NvdiffrastRenderer(SilhouetteRenderer):
    """Renders which pixels' centres a mesh covers, and smooths its outline by nvdiffrast's antialiasing.

    A pixel beside the outline takes its share from where the edge crosses the line to its neighbour's centre: an
    estimate of the area that ``contour`` takes exactly. Openings of the mesh are closed as they are there. The gradient
    comes from these pixels; the antialiasing is nvdiffrast's for the nearer of two surfaces, so z does matter.

    nvdiffrast needs an NVIDIA GPU, and compiles itself at the first call, for which it needs CUDA's compiler. Its
    licence permits non-commercial use only.

    Args:
        faces: Triangles as indices of vertices. Those that name a vertex twice are left out.
        size: The side of the mask in pixels.

    Raises:
        ImportError: If nvdiffrast is not installed.
        ValueError: If ``faces`` or ``size`` are not what ``contour`` takes.
    """

    faces: Tensor

    def __init__(self, faces: Int[Tensor, "f 3"] | Int[np.ndarray, "f 3"], size: int = 64) -> None:
        super().__init__()
        _nvdiffrast()
        surface = ContourRenderer(faces, size)
        self.size = size
        self.vertices = surface.vertices
        self.register_buffer("faces", surface.faces, persistent=False)
        self._states: dict[torch.device, tuple[Any, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_states": {}}  # what a device holds can be neither copied nor pickled

    def forward(self, points: Float[Tensor, "b v 3"]) -> Float[Tensor, "b s s"]:
        """Render the mask.

        Args:
            points: Vertices on a CUDA device: x and y in crop units, z in any unit (larger is farther).

        Returns:
            Coverage in [0, 1], row 0 at the top (y = -1), float32, differentiable in x and y once. Where a sample has a
            coordinate that is not finite, all of its mask is NaN, and its gradient in x and y as well.

        Raises:
            UserError: If the points are not on a CUDA device, if there are fewer than ``faces`` name, or if nvdiffrast
                does not compile.
        """
        _require_cuda(points)
        if points.shape[1] < self.vertices:
            raise UserError(
                f"NvdiffrastRenderer: faces name {self.vertices} vertices, but points has only {points.shape[1]}"
            )
        points = points.float()
        if len(points) == 0:
            return points.sum((1, 2))[:, None, None].expand(0, self.size, self.size)
        broken = ~points.isfinite().all(2).all(1)
        mask = self._render(_clip_coordinates(torch.where(broken[:, None, None], 0.0, points)))
        poison = torch.where(broken, torch.nan, 0.0)[:, None, None] * points[..., :2]
        return mask.clamp(0, 1) + poison.sum((1, 2))[:, None, None]

    @torch.compiler.disable
    def _render(self, clip: Tensor) -> Tensor:
        dr = _nvdiffrast()
        context, topology = self._state(clip.device)
        with torch.no_grad():
            fragments, _ = dr.rasterize(context, clip.detach(), self.faces, (self.size, self.size), grad_db=False)
            covered = (fragments[..., 3:] > 0).float()
        return dr.antialias(covered, fragments, clip, self.faces, topology_hash=topology)[..., 0]

    def _state(self, device: torch.device) -> tuple[Any, Any]:
        """Return a device's context and the mesh's topology, made at the first call."""
        if device not in self._states:
            dr = _nvdiffrast()
            try:
                context = dr.RasterizeCudaContext(device=device)
                self._states[device] = context, dr.antialias_construct_topology_hash(self.faces)
            except (RuntimeError, OSError, ImportError) as error:
                raise UserError(
                    f"the renderer 'nvdiffrast' did not start: {type(error).__name__}: {error}\n"
                    "nvdiffrast is compiled at its first use, by CUDA's nvcc (found by CUDA_HOME), a C++ compiler and "
                    "ninja; install these, or use the renderer 'contour'"
                ) from error
        return self._states[device]


def _nvdiffrast() -> ModuleType:
    try:
        import nvdiffrast.torch
    except ImportError as error:
        raise ImportError(
            f"the renderer 'nvdiffrast' needs the package nvdiffrast ({error}); pip install diffrp-nvdiffrast, "
            "whose licence permits non-commercial use only, or use the renderer 'contour'"
        ) from error
    return nvdiffrast.torch


def _require_cuda(points: Tensor) -> None:
    if points.device.type != "cuda":
        raise UserError(
            f"the renderer 'nvdiffrast' needs points on a CUDA device, got {points.device}; "
            "train on a GPU, or use the renderer 'contour'"
        )


def _clip_coordinates(points: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 4"]:
    """Give each sample the depths -0.9 (nearest) to 0.9; x and y are clip coordinates already.

    nvdiffrast's first row is at y = -1, as a crop's is.
    """
    with torch.no_grad():
        z = points[..., 2:].double()
        nearest, farthest = z.amin(1, keepdim=True), z.amax(1, keepdim=True)
        depth = 1.8 * (z - nearest) / (farthest - nearest).clamp(min=1e-30) - 0.9
    return torch.cat([points[..., :2], depth.float(), torch.ones_like(points[..., 2:])], 2)
