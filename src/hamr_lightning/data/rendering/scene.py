"""A hand with its forearm and with things around it, ready to be rendered."""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from jaxtyping import Float, Float32, Int32

from hamr_lightning.data.rendering.props import (
    ARM_STATIONS,
    arm_body,
    arm_girths,
    bend_arm,
    boundary_loop,
    loop_axis,
    random_turn,
    sleeve_body,
    solid_bodies,
)
from hamr_lightning.data.rendering.scenery import random_colour
from hamr_lightning.data.rendering.skin import paint_hand, skin_reflectance
from hamr_lightning.data.rendering.textures import TextureBank
from hamr_lightning.hand_model import HandModel
from hamr_lightning.rasterizer import vertex_normals

_SLEEVED: Final = 0.6
_HELD: Final = 0.5
_MOST_TOWARDS_CAMERA: Final = -0.6
_HAND, _CAP, _ARM, _SLEEVE, _FIRST_SOLID = range(5)
_BARE_GIRTHS: Final = arm_girths(ARM_STATIONS)
_ALONG_SLEEVE: Final = np.maximum(ARM_STATIONS - ARM_STATIONS[1], 0)


@dataclass(frozen=True)
class Scene:
    """One mesh in camera axes, in metres: first the hand with its wrist closed, then things, then the arm."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float32[np.ndarray, "v 3"]
    reflectance: Float32[np.ndarray, "v 3"]
    """Linear RGB."""
    sheen: Float32[np.ndarray, "v"]
    """Strength of highlights."""
    texture_index: Int32[np.ndarray, "f"]
    """Row of :attr:`Stage.textures`."""
    body_index: Int32[np.ndarray, "f"]
    """Which body the triangle belongs to; skin is one."""
    first_thing: int
    """The first triangle that is not the hand's."""
    first_arm: int
    """The first triangle of the arm."""


@dataclass(frozen=True)
class _Part:
    mesh: int
    """Which of the stage's meshes."""
    vertices: Float[np.ndarray, "v 3"]
    reflectance: Float32[np.ndarray, "*v 3"]
    sheen: float
    texture_row: int


@dataclass(frozen=True)
class _Layout:
    """How the triangles of some meshes are numbered when they become one."""

    faces: Int32[np.ndarray, "f 3"]
    part: Int32[np.ndarray, "f"]
    """Which of the meshes the triangle comes from."""
    place: Int32[np.ndarray, "f"]
    """Which of that mesh's triangles it is."""
    body: Int32[np.ndarray, "f"]
    first_vertices: list[int]
    first_faces: list[int]


class Stage:
    """Puts a hand into scenes.

    Args:
        hand: A right hand with an opening at the wrist.
        rng: Decides over the textures.

    Raises:
        ValueError: If the hand's mesh has not exactly one opening.
    """

    def __init__(self, hand: HandModel, rng: np.random.Generator) -> None:
        self._fingertips = hand.fingertips
        self._loop = boundary_loop(hand.faces)
        self.wrist_axis = loop_axis(hand.vertices[self._loop])
        """Unit vector from the wrist along the forearm, in the rest hand's axes."""
        bank = TextureBank()
        self._paint = paint_hand(hand, bank, rng)
        self._arm = arm_body(len(self._loop), bank, rng)
        self._sleeve = sleeve_body(len(self._loop), bank, rng)
        self._solids = solid_bodies(bank, rng)
        self.textures = bank.stack()
        corner = np.arange(len(self._loop), dtype=np.int32)
        cap = np.stack([corner, np.roll(corner, -1), np.full_like(corner, len(corner))], axis=1)
        solids = [solid.faces for solid in self._solids]
        self._meshes = [hand.faces.astype(np.int32), cap, self._arm.faces, self._sleeve.faces, *solids]
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    def set_scene(self, hand: Float[np.ndarray, "778 3"], thing_count: int, rng: np.random.Generator) -> Scene:
        """Put a posed hand, in camera axes and metres, on its arm and among things."""
        skin, sheen = self._draw_skin(rng)
        loop = hand[self._loop]
        cap = np.concatenate([loop, loop.mean(axis=0, keepdims=True)])
        things = [self._draw_thing(hand, rng) for _ in range(thing_count)]
        parts = [
            _Part(_HAND, hand, skin, sheen, _choose(self._paint.texture_rows, rng)),
            # It closes the wrist, so that the mask is that of a closed hand; the arm hides it.
            _Part(_CAP, cap, skin[self._loop[0]], sheen, self._arm.texture_rows[0]),
            *things,
            *self._draw_arm(loop, skin[self._loop], sheen, rng),
        ]
        layout = self._lay_out(parts)
        vertices = np.concatenate([part.vertices for part in parts])
        reflectance, sheens = np.empty((len(vertices), 3), np.float32), np.empty(len(vertices), np.float32)
        for part, first in zip(parts, layout.first_vertices, strict=True):
            reflectance[first : first + len(part.vertices)] = part.reflectance
            sheens[first : first + len(part.vertices)] = part.sheen
        normals = vertex_normals(vertices, layout.faces)
        arm = 2 + thing_count
        first_ring = slice(layout.first_vertices[arm], layout.first_vertices[arm] + len(loop))
        normals[first_ring] = normals[self._loop] = (normals[first_ring] + normals[self._loop]) / 2
        return Scene(
            vertices=vertices,
            faces=layout.faces,
            normals=normals,
            reflectance=reflectance,
            sheen=sheens,
            texture_index=layout.place + np.array([part.texture_row for part in parts], np.int32)[layout.part],
            body_index=layout.body,
            first_thing=layout.first_faces[2],
            first_arm=layout.first_faces[arm],
        )

    def _lay_out(self, parts: list[_Part]) -> _Layout:
        meshes = tuple(part.mesh for part in parts)
        if meshes not in self._layouts:
            faces = [self._meshes[mesh] for mesh in meshes]
            first_vertices = [0, *accumulate(len(part.vertices) for part in parts)]
            counts = [len(mesh) for mesh in faces]
            bodies = np.array([_HAND if mesh in (_CAP, _ARM) else part for part, mesh in enumerate(meshes)], np.int32)
            self._layouts[meshes] = _Layout(
                faces=np.concatenate([start + mesh for start, mesh in zip(first_vertices, faces, strict=False)]),
                part=np.arange(len(meshes), dtype=np.int32).repeat(counts),
                place=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
                body=bodies.repeat(counts),
                first_vertices=first_vertices[:-1],
                first_faces=[0, *accumulate(counts)][:-1],
            )
        return self._layouts[meshes]

    def _draw_skin(self, rng: np.random.Generator) -> tuple[Float32[np.ndarray, "778 3"], float]:
        melanin, blood = 2 * rng.beta(1.0, 1.4), rng.uniform(0.2, 0.8)
        reflectance = skin_reflectance(melanin * self._paint.melanin, blood + self._paint.blood)
        return reflectance, rng.uniform(0.01, 0.1)

    def _draw_arm(
        self,
        loop: Float[np.ndarray, "n 3"],
        skin: Float32[np.ndarray, "n 3"],
        sheen: float,
        rng: np.random.Generator,
    ) -> list[_Part]:
        x, y, z = _unit(*(loop_axis(loop) + rng.normal(0, 0.25, 3)).tolist())
        forearm = np.array(_unit(x, y, max(z, _MOST_TOWARDS_CAMERA)))
        upper_arm = np.array(_unit(forearm[0], forearm[1] + 1e-3, 0.0))

        bare = bend_arm(loop, forearm, upper_arm, ARM_STATIONS, _BARE_GIRTHS)
        rings = len(ARM_STATIONS)
        arm = _Part(_ARM, bare, np.tile(skin, (rings, 1)), sheen, self._arm.texture_rows[0])
        if rng.random() > _SLEEVED:
            return [arm]
        cuff, width = rng.uniform(0.005, 0.12), rng.uniform(1.06, 1.35)
        stations = cuff + _ALONG_SLEEVE
        folds = 1 + np.clip(rng.normal(0, 0.03, rings), -0.05, 0.05)
        girths = arm_girths(stations)
        girths[1:] *= width * folds[1:]
        sleeve = bend_arm(loop, forearm, upper_arm, stations, girths)
        cloth = random_colour(rng) ** 2
        return [arm, _Part(_SLEEVE, sleeve, cloth, 0.0, _choose(self._sleeve.texture_rows, rng))]

    def _draw_thing(self, hand: Float[np.ndarray, "778 3"], rng: np.random.Generator) -> _Part:
        """Put a box, a cylinder or a ball into the hand, or somewhere between it and the camera."""
        kind = int(rng.integers(len(self._solids)))
        body = self._solids[kind]
        size = np.exp(rng.uniform(np.log(0.007), np.log(0.03), 3))
        if rng.random() < _HELD:
            place = 0.6 * hand[self._fingertips].mean(axis=0) + 0.4 * hand.mean(axis=0)
        else:
            nearness = rng.uniform(0.6, 0.9)
            place, size = nearness * hand[rng.integers(len(hand))], nearness * size
        vertices = (body.vertices * size) @ random_turn(rng) + place
        colour, sheen = random_colour(rng) ** 2, rng.uniform(0, 0.3)
        return _Part(_FIRST_SOLID + kind, vertices, colour, sheen, _choose(body.texture_rows, rng))


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


def _choose(rows: tuple[int, ...], rng: np.random.Generator) -> int:
    return rows[rng.integers(len(rows))]
