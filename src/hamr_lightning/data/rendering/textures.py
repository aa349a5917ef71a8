"""Textures of rendered surfaces: a grid of texels for every triangle.

Any mesh has such a texture without texture coordinates, and as it is computed once as a function of the place in space,
no seam shows. A texel's two channels are lightness and gloss, in bytes.
"""

import math
from typing import Final, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from hamr_lightning.compiled import compiled

TEXELS: Final = 8
"""Texels along a triangle's edges."""

NEUTRAL: Final = 128
"""The lightness that leaves a surface's colour as it is."""

_LATTICE: Final = 16

Texture = UInt8[np.ndarray, "n 8 8 2"]


def per_texel(attributes: Float[np.ndarray, "v c"], faces: Int[np.ndarray, "f 3"]) -> Float32[np.ndarray, "f*64 c"]:
    """Interpolate what is given at vertices to every triangle's texels, of which those past its long side lie outside.

    Texel (i, j) of a triangle has the barycentric coordinates (i + 0.5) / 8 and (j + 0.5) / 8 of its second and third
    corner.
    """
    second, third = np.meshgrid(*[(np.arange(TEXELS) + 0.5) / TEXELS] * 2, indexing="ij")
    weights = np.stack([1 - second - third, second, third], axis=-1).reshape(-1, 3)
    corners = attributes[faces]
    return np.einsum("tk,fkc->ftc", weights, corners).reshape(-1, attributes.shape[1]).astype(np.float32)


def noise(points: Float[np.ndarray, "n 3"], cell: float, rng: np.random.Generator) -> Float32[np.ndarray, "n"]:
    """Return smooth noise in [-1, 1] whose lattice has cells of the given side, in the points' unit."""
    lattice = rng.uniform(-1, 1, (_LATTICE, _LATTICE, _LATTICE)).astype(np.float32)
    return _interpolate(lattice, (points / cell).astype(np.float32))


@compiled()
@no_type_check
def _interpolate(lattice, places):
    values = np.zeros(len(places), np.float32)
    for i in range(len(places)):
        x, y, z = math.floor(places[i, 0]), math.floor(places[i, 1]), math.floor(places[i, 2])
        u, v, w = places[i, 0] - x, places[i, 1] - y, places[i, 2] - z
        for corner in range(8):
            dx, dy, dz = corner >> 2, (corner >> 1) & 1, corner & 1
            weight = (u if dx else 1 - u) * (v if dy else 1 - v) * (w if dz else 1 - w)
            values[i] += weight * lattice[(x + dx) % _LATTICE, (y + dy) % _LATTICE, (z + dz) % _LATTICE]
    return values


class TextureBank:
    """Keeps the textures of many triangles in one array."""

    def __init__(self) -> None:
        self._textures: list[Texture] = []

    def add(self, lightness: Float[np.ndarray, "n"], gloss: Float[np.ndarray, "n"] | float = 0.0) -> int:
        """Add a texture, its texels in the order of :func:`per_texel`, and return the row of its first triangle.

        Args:
            lightness: About 0; -1 darkens most and 1 lightens most.
            gloss: In [0, 1].
        """
        first = sum(map(len, self._textures))
        channels = np.stack(np.broadcast_arrays(NEUTRAL + 127 * lightness, 255 * np.asarray(gloss)), axis=-1)
        texels = np.clip(np.rint(channels), 0, 255).astype(np.uint8)
        self._textures.append(texels.reshape(-1, TEXELS, TEXELS, 2))
        return first

    def stack(self) -> Texture:
        """Return all textures, in the order in which they were added."""
        return np.concatenate(self._textures)
