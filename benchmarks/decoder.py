"""The decoder, forward and backward, beside smplx's."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import smplx
import torch
from torch import Tensor, nn

import hamr_lightning as hl
from benchmarks.measure import Row, medians

BATCHES = {"cpu": (1, 32, 256), "cuda": (64,)}
LIMIT = "the blend shapes' matrix products"


def rows(device: str) -> list[Row]:
    """Time six principal components and ten shape numbers, all inputs with gradient."""
    return [row for batch in BATCHES[device] for row in _rows(device, batch)]


def _rows(device: str, batch: int) -> list[Row]:
    hand = hl.HandModel.load("open", fingertips="smplx")
    ours, theirs = hl.ManoDecoder(hand).to(device), _smplx(hand, batch).to(device)
    inputs = [torch.randn(batch, width, device=device).requires_grad_() for width in (3, 6, 10)]
    orient, pose, betas = inputs
    nowhere = torch.zeros(batch, 3, device=device)
    shifts, directions = torch.randn(batch, 145, device=device), torch.randn(145, 2334, device=device)
    moved = torch.randn(batch, 2334, device=device)
    timed: dict[str, Callable[[], object]] = {
        "ours": lambda: _step(ours, orient, pose, betas),
        "smplx": lambda: _step(theirs, betas, orient, pose, nowhere),
        "limit": lambda: (shifts @ directions, moved @ directions.T),
    }
    if device == "cuda":
        compiled = torch.compile(ours, fullgraph=True, mode="reduce-overhead")
        timed["compiled"] = lambda: _step(compiled, orient, pose, betas)
    times = medians(device, timed, seconds=4)
    names = {"ours": f"decoder, batch {batch}", "compiled": f"decoder, batch {batch}, compiled into CUDA graphs"}
    return [
        Row(name, times[key], "smplx", times["smplx"], LIMIT, times["limit"])
        for key, name in names.items()
        if key in times
    ]


def _step(decoder: Callable[..., object], *inputs: Tensor) -> None:
    mesh = decoder(*inputs)
    (mesh.vertices.sum() + mesh.joints.sum()).backward()


def _smplx(hand: hl.HandModel, batch: int) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder, "MANO_RIGHT.pkl")
        hand.save(file)
        return smplx.create(str(file), "mano", use_pca=True, num_pca_comps=6, is_rhand=True, batch_size=batch)
