"""Triton kernels of the decoder "mano": what :mod:`._mano_kernels` computes, on an NVIDIA GPU.

The kinematic chain takes a lane for each finger, which turns the wrist too; its matrices are 4 x 4, homogeneous, and
one product of them is one expression. The skinning takes a lane for each vertex. Nothing waits for the host.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_FINGERS = tl.constexpr(8)  # 5, padded
_HANDS = tl.constexpr(4)
_LANES = tl.constexpr(32)
_VERTICES = tl.constexpr(778)
_VERTEX_BLOCK = tl.constexpr(128)


def pose(vectors: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the corrections R - 1 (b, 135), the transforms (b, 16, 3, 4) and the places (b, 16, 3) of posed joints."""
    count = len(vectors)
    corrections, transforms = vectors.new_empty(count, 135), vectors.new_empty(count, 16, 3, 4)
    places = vectors.new_empty(count, 16, 3)
    _pose[(triton.cdiv(count, _HANDS.value),)](vectors, rest, corrections, transforms, places, count)
    return corrections, transforms, places


def pose_gradient(
    vectors: Tensor, rest: Tensor, transforms: Tensor, gradients: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of vectors and rest, from those of features (b, s + 135), transforms and places."""
    on_vectors, on_rest = torch.empty_like(vectors), torch.empty_like(rest)
    grid = (triton.cdiv(len(vectors), _HANDS.value),)
    _pose_gradient[grid](vectors, rest, transforms, *gradients, on_vectors, on_rest, *gradients[0].shape)
    return on_vectors, on_rest


def skin(surface: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """Return the vertices (b, v, 3) of an unposed surface (b, 3, v), by weights (16, v)."""
    vertices = surface.new_empty(len(surface), _VERTICES.value, 3)
    _skin[_vertex_grid(surface)](surface, transforms, weights, vertices)
    return vertices


def skin_gradient(surface: Tensor, transforms: Tensor, weights: Tensor, on_vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the surface, and of each vertex's blended transform (b, 3, 4, v)."""
    on_surface = torch.empty_like(surface)
    on_blended = surface.new_empty(len(surface), 3, 4, _VERTICES.value)
    _skin_gradient[_vertex_grid(surface)](surface, transforms, weights, on_vertices, on_surface, on_blended)
    return on_surface, on_blended


def _vertex_grid(surface: Tensor) -> tuple[int, int]:
    return len(surface), triton.cdiv(_VERTICES.value, _VERTEX_BLOCK.value)


@triton.jit
@no_type_check
def _pose(vectors, rest, corrections, transforms, places, count):
    hand, finger, row, column, mask = _lanes(count)
    joint = hand * 16
    world = _turn(vectors, rest, joint, row, column, mask)
    _store_pose(world, rest, joint, row, column, mask & (finger == 0), transforms, places)
    for level in tl.static_range(3):
        joint = hand * 16 + 1 + 3 * finger + level
        turn = _turn(vectors, rest, joint, row, column, mask)
        correction = turn - tl.where(row == column, 1.0, 0.0).to(turn.dtype)
        at = hand * 135 + 9 * (3 * finger + level) + 3 * row + column
        tl.store(corrections + at, correction, mask=mask & (row < 3) & (column < 3))
        world = _product(world, turn)
        _store_pose(world, rest, joint, row, column, mask, transforms, places)


@triton.jit
@no_type_check
def _pose_gradient(vectors, rest, transforms, on_features, on_transforms, on_places, on_vectors, on_rest, count, width):
    hand, finger, row, column, mask = _lanes(count)
    on_parent = tl.zeros((_LANES, 4, 4), vectors.dtype.element_ty)
    for step in tl.static_range(3):
        level = 2 - step
        joint = hand * 16 + 1 + 3 * finger + level
        parent = joint - 1 if level > 0 else hand * 16
        _, on_world, on_pivot = _posed(transforms, on_transforms, on_places, rest, joint, row, column, mask)
        on_world += on_parent
        above = _load_transform(transforms, parent, row, column, mask)
        turn = _turn(vectors, rest, joint, row, column, mask)
        on_parent = _product(on_world, tl.permute(turn, (0, 2, 1)))
        at = (hand + 1) * width - 135 + 9 * (3 * finger + level) + 3 * row + column
        on_rotation = tl.load(on_features + at, mask=mask & (row < 3) & (column < 3), other=0.0)
        on_turn = _product(tl.permute(above, (0, 2, 1)), on_world)
        _store_turn_gradient(
            on_turn, on_rotation, on_pivot, vectors, rest, turn, joint, row, column, mask, on_vectors, on_rest
        )
    joint = hand * 16
    wrist = mask & (finger == 0)
    turn, on_world, on_pivot = _posed(transforms, on_transforms, on_places, rest, joint, row, column, wrist)
    by_finger = tl.reshape(on_parent, (_HANDS, _FINGERS, 4, 4))
    summed = tl.broadcast_to(tl.sum(by_finger, 1)[:, None], (_HANDS, _FINGERS, 4, 4))
    on_world += tl.reshape(summed, (_LANES, 4, 4))
    _store_turn_gradient(
        on_world, tl.zeros_like(on_world), on_pivot, vectors, rest, turn, joint, row, column, wrist, on_vectors, on_rest
    )


@triton.jit
@no_type_check
def _lanes(count):
    """Return each lane's hand and finger, the rows and columns of its matrix, and whether there is such a finger."""
    lane = tl.program_id(0) * _LANES + tl.arange(0, _LANES)[:, None, None]
    hand, finger = lane // _FINGERS, lane % _FINGERS
    row, column = tl.arange(0, 4)[None, :, None], tl.arange(0, 4)[None, None, :]
    return hand, finger, row, column, (hand < count) & (finger < 5)


@triton.jit
@no_type_check
def _product(a, b):
    return tl.sum(a[:, :, :, None] * b[:, None, :, :], 2)


@triton.jit
@no_type_check
def _half_turn(vectors, joint, mask):
    """Return the cosine of half the angle, the vector's factor to the quaternion, and the angle squared."""
    x = tl.load(vectors + 3 * joint, mask=mask, other=0.0)
    y = tl.load(vectors + 3 * joint + 1, mask=mask, other=0.0)
    z = tl.load(vectors + 3 * joint + 2, mask=mask, other=0.0)
    squared = x * x + y * y + z * z
    angle = tl.sqrt(squared)
    factor = tl.where(angle == 0, 0.5, tl.sin(angle / 2) / tl.where(angle == 0, 1.0, angle))
    return tl.cos(angle / 2), factor, squared


@triton.jit
@no_type_check
def _turn(vectors, rest, joint, row, column, mask):
    """Return the transform that turns about a joint's place at rest."""
    w, factor, squared = _half_turn(vectors, joint, mask)
    a = tl.load(vectors + 3 * joint + row, mask=mask & (row < 3), other=0.0)
    b = tl.load(vectors + 3 * joint + column, mask=mask & (column < 3), other=0.0)
    off = (row < 3) & (column < 3) & (row != column)
    axis = tl.load(vectors + 3 * joint + 3 - row - column, mask=mask & off, other=0.0)
    axis = tl.where((column + 1) % 3 == row, axis, -axis)
    one = tl.where(row == column, 1.0, 0.0).to(a.dtype)
    change = 2 * factor * (factor * (a * b - one * squared) + w * axis)
    change = tl.where((row < 3) & (column < 3), change, 0.0)
    pivot = tl.load(rest + 3 * joint + column, mask=mask & (column < 3), other=0.0)
    moved = tl.sum(change * pivot, 2)[:, :, None]
    return one + change - tl.where(column == 3, moved, 0.0)


@triton.jit
@no_type_check
def _load_transform(transforms, joint, row, column, mask):
    entries = tl.load(transforms + 12 * joint + 4 * row + column, mask=mask & (row < 3), other=0.0)
    return tl.where((row == 3) & (column == 3), 1.0, entries)


@triton.jit
@no_type_check
def _load_point(points, joint, column, mask):
    entries = tl.load(points + 3 * joint + column, mask=mask & (column < 3), other=0.0)
    return tl.where(column == 3, 1.0, entries)


@triton.jit
@no_type_check
def _store_pose(world, rest, joint, row, column, mask, transforms, places):
    tl.store(transforms + 12 * joint + 4 * row + column, world, mask=mask & (row < 3))
    place = tl.sum(world * _load_point(rest, joint, column, mask), 2)[:, :, None]
    tl.store(places + 3 * joint + row, place, mask=mask & (row < 3))


@triton.jit
@no_type_check
def _posed(transforms, on_transforms, on_places, rest, joint, row, column, mask):
    """Return a joint's transform, its gradient, and the gradient of its place at rest, what hangs on it left out."""
    world = _load_transform(transforms, joint, row, column, mask)
    at = joint // 16 * 192 + (4 * row + column) * 16 + joint % 16
    on_world = tl.load(on_transforms + at, mask=mask & (row < 3), other=0.0)
    on_place = tl.load(on_places + 3 * joint + row, mask=mask & (row < 3), other=0.0)
    on_world += on_place * _load_point(rest, joint, column, mask)
    return world, on_world, tl.sum(world * on_place, 1)[:, None, :]


@triton.jit
@no_type_check
def _store_turn_gradient(
    on_turn, on_rotation, on_pivot, vectors, rest, turn, joint, row, column, mask, on_vectors, on_rest
):
    """Store the gradients of a rotation vector and of the place at rest that it turns about."""
    inner = (row < 3) & (column < 3)
    pivot = tl.load(rest + 3 * joint + column, mask=mask & (column < 3), other=0.0)
    on_move = tl.where(row < 3, tl.sum(tl.where(column == 3, on_turn, 0.0), 2)[:, :, None], 0.0)
    across = tl.sum(tl.where(row == column, on_move, 0.0), 1)[:, None, :]
    on_pivot += across - tl.sum(tl.where(inner, turn, 0.0) * on_move, 1)[:, None, :]
    tl.store(on_rest + 3 * joint + column, on_pivot, mask=mask & (column < 3))

    g = tl.where(inner, on_turn + on_rotation - on_move * pivot, 0.0)
    w, factor, squared = _half_turn(vectors, joint, mask)
    a = tl.load(vectors + 3 * joint + row, mask=mask & (row < 3), other=0.0)
    b = tl.load(vectors + 3 * joint + column, mask=mask & (column < 3), other=0.0)
    axis = 3 - row - column
    signed = tl.where(inner & (row != column), tl.where((column + 1) % 3 == row, g, -g), 0.0)
    twist = tl.zeros_like(b)
    for k in tl.static_range(3):
        total = tl.sum(tl.sum(tl.where(axis == k, signed, 0.0), 2), 1)[:, None, None]
        twist += tl.where(column == k, total, 0.0)
    trace = tl.sum(tl.sum(tl.where(row == column, g, 0.0), 2), 1)[:, None, None]
    along = tl.sum((g + tl.permute(g, (0, 2, 1))) * a, 1)[:, None, :]
    on_quaternion = 2 * (w * twist + factor * (along - 2 * trace * b))
    on_w = tl.sum(2 * factor * twist * b, 2)[:, :, None]
    on_factor = tl.sum(on_quaternion * b, 2)[:, :, None]
    # The difference loses all its digits at small angles, but is then multiplied by the angle's square.
    slope = on_factor * (w / 2 - factor) / tl.where(squared == 0, 1.0, squared) - on_w * factor / 2
    tl.store(on_vectors + 3 * joint + column, factor * on_quaternion + slope * b, mask=mask & (column < 3))


@triton.jit
@no_type_check
def _skin(surface, transforms, weights, vertices):
    hand, vertex, mask, x, y, z = _load_vertices(surface, _VERTICES, 1)
    for row in tl.static_range(3):
        total = tl.zeros_like(x)
        for joint in tl.static_range(16):
            a = transforms + hand * 192 + joint * 12 + row * 4
            weight = tl.load(weights + joint * _VERTICES + vertex, mask=mask, other=0.0)
            total += weight * (tl.load(a) * x + tl.load(a + 1) * y + tl.load(a + 2) * z + tl.load(a + 3))
        tl.store(vertices + (hand * _VERTICES + vertex) * 3 + row, total, mask=mask)


@triton.jit
@no_type_check
def _skin_gradient(surface, transforms, weights, on_vertices, on_surface, on_blended):
    hand, vertex, mask, x, y, z = _load_vertices(surface, _VERTICES, 1)
    _, _, _, f, g, h = _load_vertices(on_vertices, 1, 3)
    for column in tl.static_range(3):
        total = tl.zeros_like(x)
        for joint in tl.static_range(16):
            a = transforms + hand * 192 + joint * 12 + column
            weight = tl.load(weights + joint * _VERTICES + vertex, mask=mask, other=0.0)
            total += weight * (tl.load(a) * f + tl.load(a + 4) * g + tl.load(a + 8) * h)
        tl.store(on_surface + (hand * 3 + column) * _VERTICES + vertex, total, mask=mask)
    at = on_blended + hand * 12 * _VERTICES + vertex
    for row in tl.static_range(3):
        on_row = f if row == 0 else (g if row == 1 else h)
        tl.store(at + (4 * row) * _VERTICES, on_row * x, mask=mask)
        tl.store(at + (4 * row + 1) * _VERTICES, on_row * y, mask=mask)
        tl.store(at + (4 * row + 2) * _VERTICES, on_row * z, mask=mask)
        tl.store(at + (4 * row + 3) * _VERTICES, on_row, mask=mask)


@triton.jit
@no_type_check
def _load_vertices(points, axis_stride: tl.constexpr, vertex_stride: tl.constexpr):
    hand = tl.program_id(0).to(tl.int64)
    vertex = tl.program_id(1) * _VERTEX_BLOCK + tl.arange(0, _VERTEX_BLOCK)
    mask = vertex < _VERTICES
    at = points + hand * 3 * _VERTICES + vertex * vertex_stride
    x = tl.load(at, mask=mask, other=0.0)
    y = tl.load(at + axis_stride, mask=mask, other=0.0)
    z = tl.load(at + 2 * axis_stride, mask=mask, other=0.0)
    return hand, vertex, mask, x, y, z
