"""Light and shade of rendered scenes: soft shadows and diffusion at vertices, texture and gloss at pixels."""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from numba import njit

from hamr_lightning.data.rendering.textures import NEUTRAL, TEXELS, Texture
from hamr_lightning.rasterizer import Visibility, weights_at

SAMPLES_PER_SIDE = 2
"""Visibility is this many times finer than the picture, along each side."""

_CELL = 0.006
_CELLS = 56
_SHARPNESS = 3


@dataclass(frozen=True)
class Lights:
    """Directional lights: the first is the key light, the others are the sky."""

    directions: Float32[np.ndarray, "l 3"]
    """Unit vectors towards the lights, camera axes."""
    colours: Float32[np.ndarray, "l 3"]
    """Linear RGB irradiance of what faces the light."""


@dataclass(frozen=True)
class Surface:
    """What :func:`paint` needs to know of the meshes in a scene."""

    faces: Int[np.ndarray, "f 3"]
    radiance: Float32[np.ndarray, "v 3"]
    """Linear RGB of the diffusely reflected light."""
    normals: Float32[np.ndarray, "v 3"]
    sheen: Float32[np.ndarray, "v"]
    """Strength of the highlights."""
    texture_index: Int[np.ndarray, "f"]
    """Row of ``textures``."""
    textures: Texture


def soft_visibility(
    receivers: Float[np.ndarray, "v 3"], casters: Float[np.ndarray, "c 3"], lights: Lights
) -> Float32[np.ndarray, "l v"]:
    """Tell how much of each light reaches each point past the casters, from 0 to 1.

    For each light the casters are sorted into cells of 6 mm, each of which keeps the nearest to the light: a body whose
    vertices lie closer than that casts a shadow without holes, with soft edges. Beyond 17 cm from the casters' middle
    nothing is in the shade.
    """
    return _soft_visibility(
        np.asarray(receivers - casters.mean(axis=0), np.float32),
        np.asarray(casters - casters.mean(axis=0), np.float32),
        lights.directions,
    )


def irradiance(
    normals: Float32[np.ndarray, "v 3"],
    visibility: Float32[np.ndarray, "l v"],
    lights: Lights,
    wrap: Float32[np.ndarray, "3"],
) -> Float32[np.ndarray, "v 3"]:
    """Return linear RGB irradiance.

    Args:
        normals: Unit normals.
        visibility: How much of each light arrives; see :func:`soft_visibility`.
        lights: The lights.
        wrap: How far light creeps round beyond the terminator, by channel: skin scatters red farthest.
    """
    return _irradiance(normals, visibility, lights.directions, lights.colours, wrap)


def paint(picture: UInt8[np.ndarray, "h w 3"], visibility: Visibility, surface: Surface, key: Lights) -> None:
    """Paint the scene over a picture, with antialiased edges.

    Of the samples in a pixel that see the same triangle, one is shaded. Encoding is by a square root, which is within
    0.04 of sRGB's.

    Args:
        picture: The background, sRGB; changed in place.
        visibility: The scene, :data:`SAMPLES_PER_SIDE` times finer than the picture.
        surface: The scene's meshes.
        key: Only the first light is used, for highlights; the camera is taken to look along z everywhere.
    """
    halfway = key.directions[0] - np.array([0, 0, 1], np.float32)
    _paint(
        picture,
        visibility.face_index,
        visibility.nearness,
        visibility.weights,
        np.ascontiguousarray(surface.faces, np.int32),
        np.concatenate([surface.radiance, surface.normals, surface.sheen[:, None]], axis=1),
        np.ascontiguousarray(surface.texture_index, np.int32),
        surface.textures,
        halfway / max(np.linalg.norm(halfway), np.float32(1e-6)),
        key.colours[0],
    )


def coverage(visibility: Visibility, face_count: int) -> UInt8[np.ndarray, "h w"]:
    """Return the share of each pixel, 0 to 255, in which the nearest is one of the first triangles.

    The picture has a :data:`SAMPLES_PER_SIDE`-th of the visibility's height and width.
    """
    return _coverage(visibility.face_index, visibility.nearness, face_count)


def nearest_depth(visibility: Visibility) -> Float32[np.ndarray, "h w"]:
    """Return the z of what is nearest in each pixel, infinite where nothing is; sized as :func:`coverage`."""
    return _nearest_depth(visibility.nearness)


@njit(nogil=True, cache=True)
@no_type_check
def _soft_visibility(receivers, casters, directions):
    visibility = np.ones((len(directions), len(receivers)), np.float32)
    nearest = np.empty((_CELLS, _CELLS), np.float32)
    reach = np.float32(_CELLS // 2)
    for light in range(len(directions)):
        lx, ly, lz = directions[light]
        # Two axes across the light's direction (Duff et al. 2017, Building an orthonormal basis, revisited).
        sign = np.float32(1) if lz >= 0 else np.float32(-1)
        k = -1 / (sign + lz)
        ux, uy, uz = 1 + sign * lx * lx * k, sign * lx * ly * k, -sign * lx
        vx, vy, vz = lx * ly * k, sign + ly * ly * k, -ly
        nearest[:] = -np.inf
        for i in range(len(casters)):
            x, y, z = casters[i]
            column = int((x * ux + y * uy + z * uz) / _CELL + reach)
            row = int((x * vx + y * vy + z * vz) / _CELL + reach)
            if 0 <= row < _CELLS - 1 and 0 <= column < _CELLS - 1:
                height = x * lx + y * ly + z * lz
                for r in range(row, row + 2):
                    for c in range(column, column + 2):
                        nearest[r, c] = max(nearest[r, c], height)
        for i in range(len(receivers)):
            x, y, z = receivers[i]
            column = int((x * ux + y * uy + z * uz) / _CELL + reach)
            row = int((x * vx + y * vy + z * vz) / _CELL + reach)
            if 0 <= row < _CELLS - 1 and 0 <= column < _CELLS - 1:
                height = x * lx + y * ly + z * lz
                blocked = np.float32(0)
                for r in range(row, row + 2):
                    for c in range(column, column + 2):
                        over = (nearest[r, c] - height - np.float32(0.005)) / np.float32(0.01)
                        blocked += min(max(over, np.float32(0)), np.float32(1))
                visibility[light, i] = 1 - blocked / 4
    return visibility


@njit(nogil=True, cache=True)
@no_type_check
def _irradiance(normals, visibility, directions, colours, wrap):
    received = np.zeros((len(normals), 3), np.float32)
    for i in range(len(normals)):
        for light in range(len(directions)):
            facing = np.float32(0)
            for axis in range(3):
                facing += normals[i, axis] * directions[light, axis]
            for channel in range(3):
                reach = max((facing + wrap[channel]) / (1 + wrap[channel]), np.float32(0))
                received[i, channel] += reach * visibility[light, i] * colours[light, channel]
    return received


@njit(nogil=True, cache=True)
@no_type_check
def _coverage(face_index, nearness, face_count):
    side = SAMPLES_PER_SIDE
    share = np.empty((nearness.shape[0] // side, nearness.shape[1] // side), np.uint8)
    for row in range(share.shape[0]):
        for column in range(share.shape[1]):
            seen = 0
            for sample in range(side * side):
                y, x = side * row + sample // side, side * column + sample % side
                seen += (nearness[y, x] > 0) & (face_index[y, x] < face_count)
            share[row, column] = (255 * seen + side * side // 2) // (side * side)
    return share


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _nearest_depth(nearness):
    side = SAMPLES_PER_SIDE
    depth = np.empty((nearness.shape[0] // side, nearness.shape[1] // side), np.float32)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            nearest = np.float32(0)
            for sample in range(side * side):
                nearest = max(nearest, nearness[side * row + sample // side, side * column + sample % side])
            depth[row, column] = 1 / nearest
    return depth


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _paint(picture, face_index, nearness, weights, faces, attributes, texture_index, textures, halfway, key_colour):
    height, width = picture.shape[:2]
    side = SAMPLES_PER_SIDE
    for row in range(height):
        for column in range(width):
            covered = 0
            last = -1
            sum_r = sum_g = sum_b = np.float32(0)
            r = g = b = np.float32(0)
            for sample in range(side * side):
                y, x = side * row + sample // side, side * column + sample % side
                near = nearness[y, x]
                if near == 0:
                    continue
                face = face_index[y, x]
                if face != last:
                    last = face
                    second, third = weights_at(weights[face], y, x, 1 / near)
                    r, g, b = _shade(
                        faces[face],
                        np.float32(second),
                        np.float32(third),
                        attributes,
                        textures[texture_index[face]],
                        halfway,
                        key_colour,
                    )
                covered += 1
                sum_r += r
                sum_g += g
                sum_b += b
            if covered:
                share = np.float32(covered) / np.float32(side * side)
                picture[row, column, 0] = _blend(picture[row, column, 0], sum_r / covered, share)
                picture[row, column, 1] = _blend(picture[row, column, 1], sum_g / covered, share)
                picture[row, column, 2] = _blend(picture[row, column, 2], sum_b / covered, share)


@njit(nogil=True, inline="always")
@no_type_check
def _blend(behind, linear, share):
    encoded = 255 * min(np.sqrt(max(linear, np.float32(0))), np.float32(1))
    return np.uint8(behind + share * (encoded - behind) + np.float32(0.5))


@njit(nogil=True, inline="always")
@no_type_check
def _shade(corners, wj, wk, attributes, texture, halfway, key_colour):
    i, j, k = corners[0], corners[1], corners[2]
    wi = 1 - wj - wk
    u, v = min(max(int(wj * TEXELS), 0), TEXELS - 1), min(max(int(wk * TEXELS), 0), TEXELS - 1)
    lightness = (np.float32(texture[u, v, 0]) - np.float32(NEUTRAL)) / np.float32(127)
    gloss = np.float32(texture[u, v, 1]) / np.float32(255)

    r = wi * attributes[i, 0] + wj * attributes[j, 0] + wk * attributes[k, 0]
    g = wi * attributes[i, 1] + wj * attributes[j, 1] + wk * attributes[k, 1]
    b = wi * attributes[i, 2] + wj * attributes[j, 2] + wk * attributes[k, 2]
    nx = wi * attributes[i, 3] + wj * attributes[j, 3] + wk * attributes[k, 3]
    ny = wi * attributes[i, 4] + wj * attributes[j, 4] + wk * attributes[k, 4]
    nz = wi * attributes[i, 5] + wj * attributes[j, 5] + wk * attributes[k, 5]
    sheen = wi * attributes[i, 6] + wj * attributes[j, 6] + wk * attributes[k, 6]
    cosine = (nx * halfway[0] + ny * halfway[1] + nz * halfway[2]) / np.sqrt(
        nx * nx + ny * ny + nz * nz + np.float32(1e-12)
    )
    power = max(cosine, np.float32(0)) ** 2
    for _ in range(_SHARPNESS):
        power *= power
    highlight = power * sheen * (1 + 4 * gloss)

    # What darkens skin, blood and shade in the creases, takes least of the red.
    return (
        r * (1 + np.float32(0.4) * lightness) + highlight * key_colour[0],
        g * (1 + np.float32(0.55) * lightness) + highlight * key_colour[1],
        b * (1 + np.float32(0.6) * lightness) + highlight * key_colour[2],
    )
