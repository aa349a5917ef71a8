"""Numba kernels of the decoder "mano": what of MANO is no matrix product, forward and backward, on the calling thread.

A joint's *transform* (3, 4) takes a vertex of the unposed mesh to where the joint moves it. The few numbers of a pose
are in float64 within, whatever the arrays' precision. Each sample reads and writes only its own rows.
"""

import math
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from hamr_lightning.compiled import compiled

_VERTICES = 778
_LANES = 16  # vertices are taken so many at a time, of which a processor does 4 to 16 in one instruction
_ROW = -(-_VERTICES // _LANES) * _LANES
_POSED, _ON_SURFACE = 3 * _ROW, 6 * _ROW
# Sums may be taken in another order, and products added in one step: then loops over vertices become vector code.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
_compile = compiled(**_OPTIONS)
# Into the callers, without numba's count of references, which takes longer than the work itself.
_inline = compiled(**_OPTIONS, forceinline=True, _nrt=False)
_PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14])


def skinning_spans(weights: Float[np.ndarray, "v 16"]) -> tuple[Int[np.ndarray, "n 3"], Float[np.ndarray, "16 row"]]:
    """Return where the weights are not zero, as (joint, first vertex, length in lanes), and the weights, padded."""
    padded = np.zeros((16, _ROW), np.float32)
    padded[:, :_VERTICES] = weights.T
    used = padded.reshape(16, -1, _LANES).any(2)
    steps = np.diff(used, axis=1, prepend=False, append=False)
    joints, ends = np.nonzero(steps)
    first, last = ends[::2], ends[1::2]
    return np.column_stack([joints[::2], first * _LANES, last - first]), padded


def compressed_rows(matrix: Float[np.ndarray, "m n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each row starts, and the columns and float32 values of what is not zero."""
    rows = csr_matrix(matrix.astype(np.float32))
    return rows.indptr, rows.indices, rows.data


@_compile
@no_type_check
def pose(inputs, hand, chain_places, features, transforms, joints):
    """Write what the blend shapes (b, s + 135) and the skinning (b, 16, 3, 4) take, and the kinematic chain's joints.

    The inputs are global_orient, hand_pose and betas; the hand, pose_mean, pose_components, rest_joints and
    joint_directions. The chain's joint j becomes the joint numbered ``chain_places[j]``; none do if that is empty.
    """
    betas = inputs[2]
    vectors, rotations, rest = np.empty((16, 3)), np.empty((16, 3, 3)), np.empty((16, 3))
    world = np.empty((16, 3, 4))
    shapes = betas.shape[1]
    for b in range(len(betas)):
        _pose_one(b, inputs, hand, vectors, rotations, rest, world)
        transforms[b] = world
        features[b, :shapes] = betas[b]
        for j in range(1, 16):
            for k in range(9):
                features[b, shapes + 9 * (j - 1) + k] = rotations[j, k // 3, k % 3] - (k % 4 == 0)
        for j in range(len(chain_places)):
            for r in range(3):
                joints[b, chain_places[j], r] = _place(world[j, r], rest[j])


@_compile
@no_type_check
def pose_gradient(inputs, hand, chain_places, gradients, results):
    """Write the gradients of the inputs, from those of features, transforms and joints."""
    pose_components, joint_directions = hand[1], hand[3]
    on_features, on_transforms, on_joints = gradients
    on_orient, on_pose, on_betas = results
    vectors, rotations, rest = np.empty((16, 3)), np.empty((16, 3, 3)), np.empty((16, 3))
    world, on_world, on_rest = np.empty((16, 3, 4)), np.empty((16, 3, 4)), np.empty((16, 3))
    on_rotation, on_vectors = np.empty((3, 3)), np.empty((16, 3))
    shapes = on_betas.shape[1]
    for b in range(len(on_orient)):
        _pose_one(b, inputs, hand, vectors, rotations, rest, world)
        on_world[:] = on_transforms[b]
        on_rest[:] = 0.0
        for j in range(len(chain_places)):
            for r in range(3):
                g = on_joints[b, chain_places[j], r]
                on_world[j, r, 3] += g
                for c in range(3):
                    on_world[j, r, c] += g * rest[j, c]
                    on_rest[j, c] += g * world[j, r, c]
        for j in range(15, -1, -1):
            for r in range(3):
                for c in range(3):
                    on_rotation[r, c] = 0.0 if j == 0 else on_features[b, shapes + 9 * (j - 1) + 3 * r + c]
            _join_gradient(j, rotations[j], rest[j], world, on_world, on_rotation, on_rest[j])
            _rotate_gradient(vectors[j], on_rotation, on_vectors[j])
        on_angles, on_places = on_vectors.reshape(48), on_rest.reshape(48)
        on_orient[b] = on_angles[:3]
        for p in range(on_pose.shape[1]):
            total = 0.0
            for k in range(45):
                total += pose_components[p, k] * on_angles[3 + k]
            on_pose[b, p] = total
        for s in range(shapes):
            total = float(on_features[b, s])
            for k in range(48):
                total += joint_directions[s, k] * on_places[k]
            on_betas[b, s] = total


@_compile
@no_type_check
def skin(surface, transforms, skinning, regression, vertices, joints):
    """Write the vertices (b, v, 3) of the unposed surface (b, 3, v), and add to the joints (b, 21, 3) theirs.

    The skinning is what :func:`skinning_spans` returns, the regression what :func:`compressed_rows` does of the weights
    (21, v) that the joints take the vertices by.
    """
    spans, weights = skinning
    starts, sources, shares = regression
    work = np.zeros(6 * _ROW, surface.dtype)
    for b in range(len(surface)):
        work[_POSED:] = 0
        for r in range(3):
            work[r * _ROW : r * _ROW + _VERTICES] = surface[b, r]
        for s in range(len(spans)):
            j, first, length = spans[s]
            _skin_span(work[first:], weights[j, first:], length, transforms[b, j])
        mesh = vertices[b].reshape(-1)
        for v in range(_VERTICES):
            mesh[3 * v] = work[_POSED + v]
            mesh[3 * v + 1] = work[_POSED + _ROW + v]
            mesh[3 * v + 2] = work[_POSED + 2 * _ROW + v]
        for j in range(21):
            for n in range(starts[j], starts[j + 1]):
                for r in range(3):
                    joints[b, j, r] += shares[n] * vertices[b, sources[n], r]


@_compile
@no_type_check
def skin_gradient(surface, transforms, skinning, regression, gradients, on_surface, on_transforms):
    """Write the gradients of the surface and the transforms, from those of vertices and joints."""
    spans, weights = skinning
    starts, sources, shares = regression
    on_vertices, on_joints = gradients
    work = np.zeros(9 * _ROW, surface.dtype)
    for b in range(len(surface)):
        work[_ON_SURFACE:] = 0
        on_transforms[b] = 0
        mesh = on_vertices[b].reshape(-1)
        for v in range(_VERTICES):
            work[_POSED + v] = mesh[3 * v]
            work[_POSED + _ROW + v] = mesh[3 * v + 1]
            work[_POSED + 2 * _ROW + v] = mesh[3 * v + 2]
        for r in range(3):
            work[r * _ROW : r * _ROW + _VERTICES] = surface[b, r]
            for j in range(21):
                for n in range(starts[j], starts[j + 1]):
                    work[_POSED + r * _ROW + sources[n]] += shares[n] * on_joints[b, j, r]
        for s in range(len(spans)):
            j, first, length = spans[s]
            _skin_span_gradient(work[first:], weights[j, first:], length, transforms[b, j], on_transforms[b, j])
        for r in range(3):
            start = _ON_SURFACE + r * _ROW
            on_surface[b, r] = work[start : start + _VERTICES]


@_inline
@no_type_check
def _skin_span(work, weight, length, a):
    for r in range(3):
        posed, ax, ay, az, at = _POSED + r * _ROW, a[r, 0], a[r, 1], a[r, 2], a[r, 3]
        for v in range(length * _LANES):
            x, y, z = work[v], work[_ROW + v], work[2 * _ROW + v]
            work[posed + v] += weight[v] * (ax * x + ay * y + az * z + at)


@_inline
@no_type_check
def _skin_span_gradient(work, weight, length, a, on_a):
    """Add to the gradients of a span's vertices and of its joint's transform, in one pass."""
    axx, axy, axz = a[0, 0], a[0, 1], a[0, 2]
    ayx, ayy, ayz = a[1, 0], a[1, 1], a[1, 2]
    azx, azy, azz = a[2, 0], a[2, 1], a[2, 2]
    fx = fy = fz = ft = gx = gy = gz = gt = hx = hy = hz = ht = work.dtype.type(0)
    for v in range(length * _LANES):
        x, y, z = work[v], work[_ROW + v], work[2 * _ROW + v]
        f = weight[v] * work[_POSED + v]
        g = weight[v] * work[_POSED + _ROW + v]
        h = weight[v] * work[_POSED + 2 * _ROW + v]
        work[_ON_SURFACE + v] += f * axx + g * ayx + h * azx
        work[_ON_SURFACE + _ROW + v] += f * axy + g * ayy + h * azy
        work[_ON_SURFACE + 2 * _ROW + v] += f * axz + g * ayz + h * azz
        fx, fy, fz, ft = fx + f * x, fy + f * y, fz + f * z, ft + f
        gx, gy, gz, gt = gx + g * x, gy + g * y, gz + g * z, gt + g
        hx, hy, hz, ht = hx + h * x, hy + h * y, hz + h * z, ht + h
    for r, row in enumerate(((fx, fy, fz, ft), (gx, gy, gz, gt), (hx, hy, hz, ht))):
        for c in range(4):
            on_a[r, c] += row[c]


@_inline
@no_type_check
def _pose_one(b, inputs, hand, vectors, rotations, rest, world):
    orient, pose, betas = inputs
    pose_mean, pose_components, rest_joints, joint_directions = hand
    angles, places = vectors.reshape(48), rest.reshape(48)
    for k in range(48):
        angles[k] = orient[b, k] if k < 3 else pose_mean[k - 3]
        places[k] = rest_joints[k]
    for p in range(pose.shape[1]):
        amount = float(pose[b, p])
        for k in range(45):
            angles[3 + k] += amount * pose_components[p, k]
    for s in range(betas.shape[1]):
        amount = float(betas[b, s])
        for k in range(48):
            places[k] += amount * joint_directions[s, k]
    for j in range(16):
        _rotate(vectors[j], rotations[j])
        _join(j, rotations[j], rest[j], world)


@_inline
@no_type_check
def _place(row, point):
    return row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3]


@_inline
@no_type_check
def _join(j, rotation, pivot, world):
    """Write the transform of a joint: its own turn about its place at rest, then its parent's transform."""
    parent = world[_PARENTS[j]]
    for r in range(3):
        for c in range(3):
            if j == 0:
                world[0, r, c] = rotation[r, c]
            else:
                world[j, r, c] = (
                    parent[r, 0] * rotation[0, c] + parent[r, 1] * rotation[1, c] + parent[r, 2] * rotation[2, c]
                )
        place = pivot[r] if j == 0 else _place(parent[r], pivot)
        world[j, r, 3] = 0.0
        world[j, r, 3] = place - _place(world[j, r], pivot)


@_inline
@no_type_check
def _join_gradient(j, rotation, pivot, world, on_world, on_rotation, on_pivot):
    """Add to the gradients of a joint's rotation and place at rest, and of its parent's transform."""
    parent, on_parent = world[_PARENTS[j]], on_world[_PARENTS[j]]
    for r in range(3):
        on_place = on_world[j, r, 3]
        for c in range(3):
            on_turned = on_world[j, r, c] - on_place * pivot[c]
            on_pivot[c] -= on_place * world[j, r, c]
            if j == 0:
                on_rotation[r, c] += on_turned
            else:
                for k in range(3):
                    on_rotation[k, c] += parent[r, k] * on_turned
                    on_parent[r, k] += on_turned * rotation[k, c]
        if j == 0:
            on_pivot[r] += on_place
        else:
            on_parent[r, 3] += on_place
            for c in range(3):
                on_parent[r, c] += on_place * pivot[c]
                on_pivot[c] += on_place * parent[r, c]


@_inline
@no_type_check
def _half_turn(a):
    """Return the unit quaternion of a rotation vector: the cosine of half the angle, and the vector's factor."""
    angle = math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])
    return math.cos(angle / 2), math.sin(angle / 2) / angle if angle != 0 else 0.5


@_inline
@no_type_check
def _rotate(a, rotation):
    """Write the matrix of a rotation vector."""
    w, factor = _half_turn(a)
    twice = 2 * factor * factor
    for r in range(3):
        p, q = (r + 1) % 3, (r + 2) % 3
        rotation[r, r] = 1 - twice * (a[p] * a[p] + a[q] * a[q])
        rotation[q, p] = twice * a[p] * a[q] + 2 * w * factor * a[r]
        rotation[p, q] = twice * a[p] * a[q] - 2 * w * factor * a[r]


@_inline
@no_type_check
def _rotate_gradient(a, g, on_a):
    """Write the gradient of a rotation vector, from that of its matrix."""
    w, factor = _half_turn(a)
    squared = a[0] * a[0] + a[1] * a[1] + a[2] * a[2]
    trace = g[0, 0] + g[1, 1] + g[2, 2]
    on_w, on_factor = 0.0, 0.0
    for r in range(3):
        p, q = (r + 1) % 3, (r + 2) % 3
        twist = g[q, p] - g[p, q]
        along = (g[r, 0] + g[0, r]) * a[0] + (g[r, 1] + g[1, r]) * a[1] + (g[r, 2] + g[2, r]) * a[2]
        on_v = 2 * (w * twist + factor * (along - 2 * trace * a[r]))
        on_w += 2 * factor * twist * a[r]
        on_factor += on_v * a[r]
        on_a[r] = factor * on_v
    # The difference loses all its digits at small angles, but is then multiplied by the angle's square.
    slope = on_factor * (w / 2 - factor) / max(squared, 1e-300) - on_w * factor / 2
    for r in range(3):
        on_a[r] += slope * a[r]
