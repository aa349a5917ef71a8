"""The contour renderer's coverage on the CPU, as PyTorch operators."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hamr_lightning.renderers import _contour_kernels

_pool: ThreadPoolExecutor | None = None


def coverage(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> Tensor:
    """Render masks (b, size, size) of points (b, v, 3) in crop units, differentiable once; see ``ContourRenderer``.

    Args:
        points: In float32 or float64, as the masks will be.
        faces: The triangles of a closed surface, int32, (f, 3).
        edges: Its edges, int32, (e, 4): vertices u and v, the face that runs from u to v, the one that runs back.
        size: The side of the masks in pixels.
    """
    masks, _, _ = _coverage(points, faces, edges, size)
    return masks


@torch.library.custom_op("hamr_lightning::contour_coverage", mutates_args=())
def _coverage(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the masks, the records of what shows of each sample's outline, and how many each sample has.

    A sample of more records than there is room for is rendered anew for its gradient.
    """
    arrays = _meshes(points, faces, edges)
    masks = points.new_empty(len(points), size, size, device="cpu")
    records = points.new_empty(len(points), _room(size), _record(points).itemsize, dtype=torch.uint8, device="cpu")
    counts = points.new_empty(len(points), dtype=torch.int64, device="cpu")
    outputs = masks.numpy(), records.numpy().view(_record(points))[..., 0], counts.numpy()
    _share(len(points), lambda done: _contour_kernels.coverage(*arrays, done, *outputs))
    return masks.to(points.device), records.to(points.device), counts.to(points.device)


@torch.library.custom_op("hamr_lightning::contour_coverage_gradient", mutates_args=())
def _coverage_gradient(
    points: Tensor, faces: Tensor, edges: Tensor, records: Tensor, counts: Tensor, weights: Tensor
) -> Tensor:
    arrays = _meshes(points, faces, edges)
    gradient = np.zeros_like(arrays[0])
    kept = _array(records).view(_record(points))[..., 0]
    _contour_kernels.coverage_gradient(*arrays, kept, _array(counts), _array(weights), gradient)
    return torch.from_numpy(gradient).to(points.device)


def _room(size: int) -> int:
    """Return how many records of a sample are kept: enough for a hand that fills the frame."""
    return 256 + 6 * size


def _record(points: Tensor) -> np.dtype:
    return _contour_kernels.RECORD64 if points.dtype == torch.float64 else _contour_kernels.RECORD32


def _meshes(points: Tensor, faces: Tensor, edges: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return arrays whose indices are unsigned, which numba need not check for counting from the end."""
    return _array(points), _array(faces).view(np.uint32), _array(edges).view(np.uint32)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


@_coverage.register_fake
def _(points: Tensor, faces: Tensor, edges: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    samples = points.shape[0]
    return (
        points.new_empty(samples, size, size),
        points.new_empty(samples, _room(size), _record(points).itemsize, dtype=torch.uint8),
        points.new_empty(samples, dtype=torch.int64),
    )


@_coverage_gradient.register_fake
def _(points: Tensor, faces: Tensor, edges: Tensor, records: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    return points.new_empty(points.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])
    ctx.set_materialize_grads(False)  # else records would get one, of zeros


def _backward(ctx: Any, weights: Tensor | None, *_: Any) -> tuple[Tensor | None, None, None, None]:
    gradient = None if weights is None else _coverage_gradient(*ctx.saved_tensors, weights)
    return gradient, None, None, None


_coverage.register_autograd(_backward, setup_context=_keep)


def _share(samples: int, work: Callable[[np.ndarray], None]) -> None:
    """Call ``work(done)`` on this thread and on helpers, which take samples one by one as they count them in ``done``.

    The calling thread does not wait for helpers that have yet to begin: on a busy machine, where help comes late, it
    does the work itself.
    """
    done = np.zeros(1, np.int64)
    helping = [_helpers().submit(work, done) for _ in range(min(torch.get_num_threads(), samples // 2) - 1)]
    work(done)
    for helper in helping:
        if not helper.cancel():
            helper.result()


def _helpers() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="contour")
    return _pool


def _forget_helpers() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # threads do not survive a fork
