"""The decoder's Triton kernels against torch's operations: on a GPU, or under Triton's interpreter (nox -s triton)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hamr_lightning._mano_autograd import CudaDecode
from hamr_lightning.decoders import ManoDecoder

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU, or Triton's interpreter (nox -s triton)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
pytest.importorskip("triton")

DEVICE = "cpu" if INTERPRETED else "cuda"


def parameters(decoder: ManoDecoder, count: int, scale: float, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    widths = (decoder.orient_size, decoder.pose_size, decoder.shape_size)
    inputs = (torch.randn(count, width, generator=generator, dtype=torch.float64) * scale for width in widths)
    return [x.to(DEVICE, dtype).requires_grad_() for x in inputs]


def assert_same(decoder: ManoDecoder, inputs: list[Tensor], tolerance: float) -> None:
    """Compare meshes and gradients with those of torch's operations in float64."""
    outputs = CudaDecode.apply(decoder, *inputs)
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    exact = decoder.double().decode_by_torch(*exact_inputs)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(DEVICE) for x in exact]
    decoder.to(inputs[0].dtype)
    found = torch.autograd.grad(outputs, inputs, [w.to(inputs[0].dtype) for w in weights])
    expected = torch.autograd.grad(exact, exact_inputs, weights)
    for our, their in zip((*outputs, *found), (*exact, *expected), strict=True):
        torch.testing.assert_close(our.double(), their, rtol=0, atol=tolerance * max(1, their.abs().max().item()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("arguments", [{}, {"joint_source": "chain", "pose_components": None, "shape_components": 3}])
@pytest.mark.parametrize(("count", "scale"), [(1, 0.0), (5, 1e-4), (5, 1.0)])
def test_meshes_and_gradients(count: int, scale: float, arguments: dict, dtype: torch.dtype, tolerance: float) -> None:
    decoder = ManoDecoder(flat_hand_mean=True, **arguments).to(DEVICE, dtype)
    assert_same(decoder, parameters(decoder, count, scale, dtype), tolerance)


def test_gradients_of_strange_layouts() -> None:
    decoder = ManoDecoder().to(DEVICE)
    inputs = parameters(decoder, 3, 1.0, torch.float32)
    vertices, joints = CudaDecode.apply(decoder, *inputs)
    plain, _ = decoder.decode_by_torch(*inputs)
    found = torch.autograd.grad(vertices.mT.square().sum(), inputs, retain_graph=True)
    expected = torch.autograd.grad(plain.square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (alone,) = torch.autograd.grad(joints.sum(), inputs[1:2])
    assert alone.isfinite().all()


def test_a_spoiled_sample_spoils_no_other() -> None:
    decoder = ManoDecoder().to(DEVICE)
    orient, pose, betas = (x.detach() for x in parameters(decoder, 4, 1.0, torch.float32))
    expected = CudaDecode.apply(decoder, orient, pose, betas)
    spoiled = orient.index_fill(0, torch.tensor([1], device=DEVICE), torch.nan).requires_grad_()
    outputs = CudaDecode.apply(decoder, spoiled, pose, betas)
    (gradient,) = torch.autograd.grad(outputs[0].sum(), spoiled)
    assert outputs[0][1].isnan().all()
    assert gradient[[0, 2, 3]].isfinite().all()
    for found, plain in zip(outputs, expected, strict=True):
        torch.testing.assert_close(found[[0, 2, 3]], plain[[0, 2, 3]])


@pytest.mark.skipif(INTERPRETED, reason="needs a GPU")
def test_a_step_can_be_captured_as_a_graph() -> None:
    decoder = ManoDecoder().to(DEVICE)
    inputs = parameters(decoder, 4, 0.5, torch.float32)

    def step() -> tuple[Tensor, ...]:
        mesh = decoder(*inputs)
        return torch.autograd.grad(mesh.vertices.square().sum() + mesh.joints.sum(), inputs)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    torch.testing.assert_close(found, expected)


AHEAD_OF_TIME = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hamr_lightning import _mano_triton as kernels

for number in ("*fp32", "*fp64"):
    for name in ("_pose", "_pose_gradient", "_skin", "_skin_gradient"):
        kernel = getattr(kernels, name)
        signature = {argument: "i32" if argument in ("count", "width") else number for argument in kernel.arg_names}
        built = triton.compile(ASTSource(kernel, signature), target=GPUTarget("cuda", 90, 32))
        assert len(built.asm["cubin"]) > 1000
        print(name)
"""


@pytest.mark.skipif(not INTERPRETED, reason="a GPU's own compilation shows more")
def test_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", AHEAD_OF_TIME]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8
