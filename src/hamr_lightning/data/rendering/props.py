"""Bodies that are rendered beside the hand: the forearm, bare or sleeved, and things that hide a part of the hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, no_type_check

import numpy as np
from jaxtyping import Float, Int, Int32

from hamr_lightning.compiled import compiled
from hamr_lightning.data.rendering.skin import mottling
from hamr_lightning.data.rendering.textures import TextureBank, noise, per_texel
from hamr_lightning.data.turns import multiply, turn_between

ARM_STATIONS: Final = np.array([0, 1, 2, 3.5, 5, 7, 9, 12, 15, 18, 21, 24, 27, 30, 36, 46, 60, 80]) / 100
"""Where the rings of a tube along the arm lie, metres from the wrist."""

_STEP: Final = 0.02


@dataclass(frozen=True)
class Body:
    """A mesh, its triangles counter-clockwise from outside."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    texture_rows: tuple[int, ...]
    """Where in the bank the textures begin that it may have."""


def boundary_loop(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "n"]:
    """Return the vertices around a mesh's one opening, counter-clockwise as one looks into it.

    Raises:
        ValueError: If the mesh has no opening, or several.
    """
    edges = {(int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    following = {b: a for a, b in edges if (b, a) not in edges}
    if not following:
        raise ValueError("the hand model's mesh is closed; a forearm needs an opening at the wrist")
    loop = [min(following)]
    while len(loop) < len(following):
        loop.append(following.get(loop[-1], loop[0]))
    if len(set(loop)) < len(loop):
        raise ValueError("the hand model's mesh has other openings than the wrist's; close them")
    return np.array(loop)


def loop_axis(loop: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """Return the unit normal of the points around an opening, pointing out of it."""
    return _loop_axis(loop)


def bend_arm(
    loop: Float[np.ndarray, "n 3"],
    forearm: Float[np.ndarray, "3"],
    upper_arm: Float[np.ndarray, "3"],
    stations: Float[np.ndarray, "r"],
    girths: Float[np.ndarray, "r"],
) -> Float[np.ndarray, "r*n 3"]:
    """Return rings of vertices along an arm that starts at the wrist's opening and turns twice.

    Args:
        loop: The vertices around the opening.
        forearm: Unit direction that the arm takes within 4 cm of the wrist.
        upper_arm: Unit direction that it takes from 20 to 30 cm on.
        stations: Where the rings lie, metres along the arm.
        girths: How wide they are, as multiples of the wrist.
    """
    return _bend_arm(loop, loop_axis(loop), forearm, upper_arm, stations, girths)


def random_turn(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Return a rotation matrix, all rotations being equally likely."""
    x, y, z, w = rng.standard_normal(4)
    scale = 2 / (w * w + x * x + y * y + z * z)
    return np.array(
        [
            [1 - scale * (y * y + z * z), scale * (x * y - w * z), scale * (x * z + w * y)],
            [scale * (x * y + w * z), 1 - scale * (x * x + z * z), scale * (y * z - w * x)],
            [scale * (x * z - w * y), scale * (y * z + w * x), 1 - scale * (x * x + y * y)],
        ]
    )


def arm_girths(stations: Float[np.ndarray, "r"]) -> Float[np.ndarray, "r"]:
    """Return how wide a bare arm is at stations along it, as a multiple of the wrist."""
    return np.interp(stations, [0, 0.02, 0.2, 0.26], [1, 0.97, 1.4, 1.35])


def arm_body(circumference: int, bank: TextureBank, rng: np.random.Generator) -> Body:
    """Return a straight bare arm, its rings in order; :func:`bend_arm` gives it other vertices."""
    vertices, faces = _tube(circumference)
    return Body(vertices, faces, (bank.add(mottling(per_texel(vertices, faces), rng)),))


def sleeve_body(circumference: int, bank: TextureBank, rng: np.random.Generator) -> Body:
    """Return a straight sleeve, its rings in order; :func:`bend_arm` gives it other vertices."""
    vertices, faces = _tube(circumference)
    return Body(vertices, faces, _patterns(per_texel(vertices, faces), bank, rng))


def solid_bodies(bank: TextureBank, rng: np.random.Generator) -> tuple[Body, ...]:
    """Return a box, a cylinder and a ball, each within 1 of the origin along every axis."""
    across, around, polar = np.linspace(-1, 1, 4), np.linspace(0, 2 * np.pi, 21), np.linspace(0, np.pi, 11)
    square = np.stack([*np.meshgrid(across, across), np.ones((4, 4))], axis=-1)
    wall = _revolve(np.ones(4), across, around)
    lid = _revolve(np.linspace(1, 0, 3), np.ones(3), around)
    upside_down = [1, -1, -1]
    box = [np.roll(side, turn, axis=-1) for turn in range(3) for side in (square, square * upside_down)]
    ball = _revolve(np.sin(polar), -np.cos(polar), around)
    return tuple(_solid(patches, bank, rng) for patches in (box, [wall, lid, lid * upside_down], [ball]))


def _solid(patches: list[Float[np.ndarray, "_ _ 3"]], bank: TextureBank, rng: np.random.Generator) -> Body:
    """Join grids of vertices, each with its own normals so that edges between them stay sharp."""
    first = [0, *accumulate(patch.shape[0] * patch.shape[1] for patch in patches)]
    vertices = np.concatenate([patch.reshape(-1, 3) for patch in patches])
    faces = np.concatenate([start + _grid_faces(patch) for start, patch in zip(first[:-1], patches, strict=True)])
    return Body(vertices, faces, _patterns(0.04 * per_texel(vertices, faces), bank, rng))


def _tube(circumference: int) -> tuple[Float[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    around = np.linspace(0, 2 * np.pi, circumference + 1)
    grid = _revolve(np.full(len(ARM_STATIONS), 0.03), ARM_STATIONS, around)
    row, column = np.divmod(_grid_faces(grid), circumference + 1)
    return grid[:, :-1].reshape(-1, 3), row * circumference + column


def _revolve(
    radii: Float[np.ndarray, "r"], heights: Float[np.ndarray, "r"], around: Float[np.ndarray, "c"]
) -> Float[np.ndarray, "r c 3"]:
    circle = np.stack([np.cos(around), np.sin(around), np.ones_like(around)], axis=-1)
    return circle * np.stack([radii, radii, heights], axis=-1)[:, None]


def _grid_faces(grid: Float[np.ndarray, "r c 3"]) -> Int32[np.ndarray, "f 3"]:
    """Triangles of a grid, row after row, counter-clockwise where rows go up and columns to the right.

    Where the grid closes on itself the first column stands for the last.
    """
    rows, columns = grid.shape[:2]
    column = np.arange(columns, dtype=np.int32)
    if np.allclose(grid[:, 0], grid[:, -1]):
        column[-1] = 0
    index = np.arange(rows, dtype=np.int32)[:, None] * columns + column
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.stack([a, b, c, b, d, c], axis=-1).reshape(-1, 3)


def _patterns(points: Float[np.ndarray, "n 3"], bank: TextureBank, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(bank.add(0.5 * pattern(points, rng)) for pattern in _PATTERNS)


def _plain(points: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    return 0.15 * noise(points, 0.02, rng) + 0.15 * noise(points, 0.002, rng)


def _blotches(points: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    return np.clip(4 * noise(points, 0.012, rng), -1, 1)


def _stripes(points: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    phase = points @ _unit(rng.normal(size=3)) * 2 * np.pi / rng.uniform(0.006, 0.03)
    return np.clip(4 * np.sin(phase), -1, 1) + _plain(points, rng)


def _plaid(points: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    return 0.5 * (_stripes(points, rng) + _stripes(points, rng))


_PATTERNS: Final[tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...]] = (
    _plain,
    _plain,
    _blotches,
    _stripes,
    _plaid,
)


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@compiled()
@no_type_check
def _loop_axis(loop):
    middle = _middle(loop)
    axis = np.zeros(3)
    for i in range(len(loop)):
        x, y, z = loop[i] - middle
        u, v, w = loop[(i + 1) % len(loop)] - middle
        axis[0] += y * w - z * v
        axis[1] += z * u - x * w
        axis[2] += x * v - y * u
    return axis / np.sqrt(np.sum(axis**2))


@compiled()
@no_type_check
def _middle(points):
    total = np.zeros(3)
    for i in range(len(points)):
        total += points[i]
    return total / len(points)


@compiled()
@no_type_check
def _bend_arm(loop, axis, forearm, upper_arm, stations, girths):
    count = len(loop)
    offsets = loop - _middle(loop)
    rings = np.empty((len(stations) * count, 3))
    centre, passed = _middle(loop), 0.0
    for ring in range(len(stations)):
        while passed < stations[ring]:
            step = min(_STEP, stations[ring] - passed)
            centre += step * _directions(axis, forearm, upper_arm, passed + step / 2)[1]
            passed += step
        straight, ahead = _directions(axis, forearm, upper_arm, stations[ring])
        frame = girths[ring] * multiply(turn_between(straight, ahead), turn_between(axis, straight))
        flatness = min(stations[ring] / 0.02, 1.0)
        for i in range(count):
            x, y, z = offsets[i]
            above = flatness * (x * axis[0] + y * axis[1] + z * axis[2])
            x, y, z = x - above * axis[0], y - above * axis[1], z - above * axis[2]
            for row in range(3):
                rings[ring * count + i, row] = centre[row] + frame[row, 0] * x + frame[row, 1] * y + frame[row, 2] * z
    return rings


@compiled()
@no_type_check
def _directions(axis, forearm, upper_arm, station):
    """Return where the arm would point without an elbow, and where it points."""
    wrist = min(station / 0.04, 1.0)
    elbow = min(max((station - 0.2) / 0.1, 0.0), 1.0)
    straight, ahead = np.empty(3), np.empty(3)
    for i in range(3):
        straight[i] = axis[i] + wrist * (forearm[i] - axis[i])
        ahead[i] = straight[i] + elbow * (upper_arm[i] - forearm[i])
    return _to_unit(straight), _to_unit(ahead)


@compiled()
@no_type_check
def _to_unit(vector):
    length = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    for i in range(3):
        vector[i] /= length
    return vector
