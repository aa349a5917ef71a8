"""The decoder "mano" as one autograd function: its blend shapes are matrix products, what lies between is compiled."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from hamr_lightning import _mano_kernels

if TYPE_CHECKING:
    from hamr_lightning.decoders import ManoDecoder

_HAS_TRITON = find_spec("triton") is not None


def fused_decode(*tensors: Tensor) -> type[Function] | None:
    """Return the function for tensors of one device; None without one, and where torch's operations are transformed."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():
        return None
    devices = {tensor.device.type for tensor in tensors}
    if devices == {"cpu"}:
        return CpuDecode
    return CudaDecode if devices == {"cuda"} and _HAS_TRITON else None


class CpuDecode(Function):
    """By kernels that Numba compiles, on the calling thread; the matrix products take torch's threads."""

    @staticmethod
    def forward(ctx: Any, decoder: "ManoDecoder", *inputs: Tensor) -> tuple[Tensor, Tensor]:
        new, count = decoder.template.new_empty, len(inputs[0])
        features, surface = new(count, len(decoder.directions)), new(count, len(decoder.template))
        transforms, vertices, joints = new(count, 16, 3, 4), new(count, 778, 3), new(count, 21, 3).zero_()
        _mano_kernels.pose(_arrays(*inputs), *decoder.pose_arrays, *_arrays(features, transforms, joints))
        torch.addmm(decoder.template, features, decoder.directions, out=surface)
        unposed = surface.view(count, 3, 778)
        _mano_kernels.skin(*_arrays(unposed, transforms), *decoder.skin_arrays, *_arrays(vertices, joints))
        ctx.decoder = decoder
        ctx.save_for_backward(*inputs, unposed, transforms)
        return vertices, joints

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_gradient(ctx, gradients)
        decoder, (*inputs, unposed, transforms) = ctx.decoder, ctx.saved_tensors
        posed, on_posed = _arrays(unposed, transforms), _arrays(*gradients)
        on_surface, on_transforms = torch.empty_like(unposed), np.empty_like(posed[1])
        _mano_kernels.skin_gradient(*posed, *decoder.skin_arrays, on_posed, on_surface.numpy(), on_transforms)
        on_features = unposed.new_empty(len(unposed), len(decoder.directions))
        torch.mm(on_surface.flatten(1), decoder.directions.mT, out=on_features)
        on_inputs = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        on_pose = on_features.numpy(), on_transforms, on_posed[1]
        _mano_kernels.pose_gradient(_arrays(*inputs), *decoder.pose_arrays, on_pose, _arrays(*on_inputs))
        return _needed(ctx, on_inputs)


class CudaDecode(Function):
    """By kernels that Triton compiles."""

    @staticmethod
    def forward(ctx: Any, decoder: "ManoDecoder", *inputs: Tensor) -> tuple[Tensor, Tensor]:
        from hamr_lightning import _mano_triton

        orient, pose, betas = inputs
        with torch.autocast(orient.device.type, enabled=False), torch.cuda.device_of(orient):
            vectors = torch.cat([orient, torch.addmm(decoder.pose_mean, pose, decoder.pose_components)], 1)
            rest = torch.addmm(decoder.rest_joints, betas, decoder.joint_directions)
            corrections, transforms, places = _mano_triton.pose(vectors, rest)
            features = torch.cat([betas, corrections], 1)
            surface = torch.addmm(decoder.template, features, decoder.directions)
            vertices = _mano_triton.skin(surface, transforms, decoder.skinning_weights)
            joints = decoder.joint_weights.mT @ vertices + decoder.chain_weights.mT @ places
        ctx.decoder = decoder
        ctx.save_for_backward(*inputs, vectors, rest, surface, transforms)
        return vertices, joints

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_gradient(ctx, gradients)
        from hamr_lightning import _mano_triton

        decoder, (*inputs, vectors, rest, surface, transforms) = ctx.decoder, ctx.saved_tensors
        on_vertices, on_joints = gradients
        with torch.autocast(surface.device.type, enabled=False), torch.cuda.device_of(surface):
            on_mesh = (on_vertices + decoder.joint_weights @ on_joints).contiguous()
            on_places = decoder.chain_weights @ on_joints
            on_surface, on_blended = _mano_triton.skin_gradient(surface, transforms, decoder.skinning_weights, on_mesh)
            on_transforms = on_blended @ decoder.skinning_weights.mT
            on_features = on_surface.flatten(1) @ decoder.directions.mT
            shapes = inputs[2].shape[1]
            on_pose = on_features, on_transforms, on_places
            on_vectors, on_rest = _mano_triton.pose_gradient(vectors, rest, transforms, on_pose)
            on_betas = torch.addmm(on_features[:, :shapes], on_rest, decoder.joint_directions.mT)
            on_hand_pose = on_vectors[:, 3:] @ decoder.pose_components.mT
        return _needed(ctx, [on_vectors[:, :3], on_hand_pose, on_betas])


def _needed(ctx: Any, on_inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return None, *(x if need else None for x, need in zip(on_inputs, ctx.needs_input_grad[1:], strict=True))


def _differentiable_gradient(ctx: Any, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients by torch's own operations, for who differentiates them again."""
    inputs = [x.view_as(x) for x in ctx.saved_tensors[:3]]  # where one depends on another, each gets its own part alone
    needed = [x for x, need in zip(inputs, ctx.needs_input_grad[1:], strict=True) if need]
    found = iter(torch.autograd.grad(ctx.decoder.decode_by_torch(*inputs), needed, gradients, create_graph=True))
    return None, *(next(found) if need else None for need in ctx.needs_input_grad[1:])


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
