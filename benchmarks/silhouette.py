"""The silhouette renderer, forward and backward, alone and with the loss around it."""

import os
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor

import hamr_lightning as hl
from benchmarks.measure import Row, medians

HANDS = {"cpu": 32, "cuda": 64}
SIZES = {"cpu": (64, 128, 256), "cuda": (64, 256)}
SOFTNESS = 1e-4
LIMIT = "the L1 loss alone"
BUSY = "while True: sum(range(10**6))"


def rows(device: str) -> list[Row]:
    """Time posed hands that fill two thirds of the frame."""
    table = [_whole(device, size) for size in SIZES[device]]
    table += [_alone(device, size) for size in SIZES[device]]
    return table + ([_against_soft(), _while_busy(64), _while_busy(256)] if device == "cpu" else [])


def _whole(device: str, size: int) -> Row:
    points, faces, target = _scene(device, HANDS[device], size)
    mask = torch.rand_like(target).requires_grad_()
    timed: dict[str, Callable[[], object]] = {
        "ours": _call(hl.build("renderer", "contour", faces=faces, size=size), points, target),
        "limit": lambda: (mask - target).abs().mean().backward(),
    }
    if device == "cuda":
        timed["nvdiffrast"] = _call(hl.build("renderer", "nvdiffrast", faces=faces, size=size), points, target)
    times = medians(device, timed)
    name = f"silhouette and L1 loss, {len(points)} hands, {size} x {size}"
    peer = "nvdiffrast" if device == "cuda" else ""
    return Row(name, times["ours"], peer, times.get("nvdiffrast"), LIMIT, times["limit"])


def _alone(device: str, size: int) -> Row:
    points, faces, weights = _scene(device, HANDS[device], size)
    renderer = hl.build("renderer", "contour", faces=faces, size=size).to(device)

    def render() -> None:
        torch.autograd.grad(renderer(points), points, weights)

    times = medians(device, {"ours": render, "limit": lambda: torch.empty_like(weights).copy_(weights)})
    name = f"silhouette alone, {len(points)} hands, {size} x {size}"
    return Row(name, times["ours"], limit="a copy of the masks", least=times["limit"])


def _against_soft() -> Row:
    points, faces, target = _scene("cpu", 1, 64)
    corners = faces.long()
    ours = _call(hl.build("renderer", "contour", faces=faces, size=64), points, target)
    soft = lambda: (soft_silhouette(points[0, :, :2], corners, 64) - target[0]).abs().mean().backward()  # noqa: E731
    times = medians("cpu", {"ours": ours, "soft": soft})
    return Row("silhouette and L1 loss, 1 hand, 64 x 64", times["ours"], "dense soft rasterizer", times["soft"])


def _while_busy(size: int) -> Row:
    """Time beside processes that keep the cores busy, on one thread as in hamr-fit; the idle machine is the peer."""
    points, faces, target = _scene("cpu", HANDS["cpu"], size)
    threads = torch.get_num_threads()
    call = _call(hl.build("renderer", "contour", faces=faces, size=size), points, target)
    idle = medians("cpu", {"ours": call})["ours"]
    torch.set_num_threads(1)
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        busy = medians("cpu", {"ours": call})["ours"]
    finally:
        torch.set_num_threads(threads)
        for process in others:
            process.kill()
    return Row(f"the same, {len(points)} hands, {size} x {size}, cores busy", busy, "cores idle", idle)


def _scene(device: str, hands: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    decoder = hl.ManoDecoder()
    widths = (3, decoder.pose_size, 10)
    mesh = decoder(*(torch.randn(hands, width, generator=generator) for width in widths))
    centred = mesh.vertices - (mesh.vertices.amax(1, keepdim=True) + mesh.vertices.amin(1, keepdim=True)) / 2
    points = centred / centred[..., :2].abs().amax((1, 2), keepdim=True) * (2 / 3)
    target = torch.rand(hands, size, size, generator=generator)
    return points.to(device).requires_grad_(), decoder.faces.to(device), target.to(device)


def _call(renderer: torch.nn.Module, points: Tensor, target: Tensor) -> Callable[[], None]:
    renderer = renderer.to(points.device)
    return lambda: (renderer(points) - target).abs().mean().backward()


def soft_silhouette(points: Tensor, faces: Tensor, size: int) -> Tensor:
    """Render SoftRas' silhouette with every triangle at every pixel, as PyTorch3D's does with some.

    A triangle counts as sigmoid(+-d^2 / sigma) with d the distance to its border, positive inside.
    """
    centres = (torch.arange(size) * 2 + 1) / size - 1
    pixels = torch.cartesian_prod(centres, centres).flip(1)[:, None]
    corners = points[faces]
    nearest, sides = torch.inf, []
    for k in range(3):
        begin, edge = corners[:, k], corners[:, (k + 1) % 3] - corners[:, k]
        offset = pixels - begin
        along = ((offset * edge).sum(-1) / edge.square().sum(-1).clamp(min=1e-12)).clamp(0, 1)
        distance = (offset - along[..., None] * edge).square().sum(-1)
        nearest = distance if k == 0 else torch.minimum(nearest, distance)
        sides.append(edge[:, 0] * offset[..., 1] - edge[:, 1] * offset[..., 0] > 0)
    inside = (sides[0] == sides[1]) & (sides[1] == sides[2])
    presence = torch.sigmoid(torch.where(inside, nearest, -nearest) / SOFTNESS)
    return 1 - torch.exp(torch.log1p(-presence.clamp(max=1 - 1e-6)).sum(1)).reshape(size, size)
