"""Light and shade of rendered scenes: soft shadows and diffusion at vertices, texture and gloss at pixels."""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from numba import njit

from hamr_lightning.compiled import compiled
from hamr_lightning.data.rendering.textures import NEUTRAL, TEXELS, Texture
from hamr_lightning.rasterizer import Visibility, weights_at

SAMPLES_PER_SIDE = 2
"""Visibility is this many times finer than the picture, along each side."""

_CELL = 0.006
_CELLS = 56
_SHARPNESS = 3
_ZERO, _HALF, _ONE, _TEXELS = np.float32(0), np.float32(0.5), np.float32(1), np.float32(TEXELS)


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
    body_index: Int[np.ndarray, "f"]
    """Which body the triangle belongs to."""
    textures: Texture


def soft_visibility(
    receivers: Float[np.ndarray, "v 3"], casters: Float[np.ndarray, "c 3"], lights: Lights
) -> Float32[np.ndarray, "l v"]:
    """Tell how much of each light reaches each point past the casters, from 0 to 1.

    For each light the casters are sorted into cells of 6 mm, each of which keeps the nearest to the light: a body whose
    vertices lie closer than that casts a shadow without holes, with soft edges. Beyond 17 cm from the casters' middle
    nothing is in the shade.
    """
    middle = casters.mean(axis=0)
    return _soft_visibility(
        np.ascontiguousarray((receivers - middle).T, np.float32),
        np.ascontiguousarray((casters - middle).T, np.float32),
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


def paint(
    picture: UInt8[np.ndarray, "h w 3"], visibility: Visibility, surface: Surface, key: Lights, step: float
) -> Float32[np.ndarray, "h w"]:
    """Paint the scene over a picture, with antialiased edges, and return the z of what is nearest in each pixel.

    It is infinite where nothing is.

    Where all of a pixel's samples see one body without a step in depth, one is shaded; elsewhere one of those that see
    the same triangle is. Encoding is by a square root, which is within 0.04 of sRGB's.

    Args:
        picture: The background, sRGB; changed in place.
        visibility: The scene, :data:`SAMPLES_PER_SIDE` times finer than the picture.
        surface: The scene's meshes.
        key: Only the first light is used, for highlights; the camera is taken to look along z everywhere.
        step: What difference in depth within a pixel is the edge of something, as a share of the depth.
    """
    halfway = key.directions[0] - np.array([0, 0, 1], np.float32)
    depth = np.full(picture.shape[:2], np.inf, np.float32)
    _paint(
        picture,
        depth,
        visibility.face_index,
        visibility.nearness,
        visibility.weights,
        np.ascontiguousarray(surface.faces, np.int32),
        np.concatenate([surface.radiance, surface.normals, surface.sheen[:, None]], axis=1),
        np.ascontiguousarray(surface.texture_index, np.int32),
        surface.textures,
        np.ascontiguousarray(surface.body_index, np.int32),
        halfway / max(np.linalg.norm(halfway), np.float32(1e-6)),
        key.colours[0],
        1 - step,
    )
    return depth


def coverage(visibility: Visibility, face_count: int) -> UInt8[np.ndarray, "h w"]:
    """Return the share of each pixel, 0 to 255, in which the nearest is one of the first triangles.

    The picture has a :data:`SAMPLES_PER_SIDE`-th of the visibility's height and width.
    """
    return _coverage(visibility.face_index, visibility.nearness, face_count)


@compiled()
@no_type_check
def _soft_visibility(receivers, casters, directions):
    count = receivers.shape[1]
    visibility = np.ones((len(directions), count), np.float32)
    nearest = np.empty((_CELLS, _CELLS), np.float32)
    rows, columns = np.empty(max(count, casters.shape[1]), np.int32), np.empty(max(count, casters.shape[1]), np.int32)
    heights = np.empty(max(count, casters.shape[1]), np.float32)
    for light in range(len(directions)):
        _sort_into_cells(casters, directions[light], rows, columns, heights)
        nearest[:] = -np.inf
        for i in range(casters.shape[1]):
            row, column = rows[i], columns[i]
            if 0 <= row < _CELLS - 1 and 0 <= column < _CELLS - 1:
                nearest[row, column] = max(nearest[row, column], heights[i])
        # Each cell takes over what its neighbours before it have: a vertex casts on two cells by two.
        for row in range(_CELLS - 1, -1, -1):
            for column in range(_CELLS):
                nearest[row, column] = max(nearest[row, column], nearest[max(row - 1, 0), column])
            for column in range(_CELLS - 1, 0, -1):
                nearest[row, column] = max(nearest[row, column], nearest[row, column - 1])

        _sort_into_cells(receivers, directions[light], rows, columns, heights)
        for i in range(count):
            row, column = rows[i], columns[i]
            if 0 <= row < _CELLS - 1 and 0 <= column < _CELLS - 1:
                height = heights[i] + np.float32(0.005)
                blocked = _ZERO
                for r in range(row, row + 2):
                    for c in range(column, column + 2):
                        over = (nearest[r, c] - height) * np.float32(100)
                        blocked += min(max(over, _ZERO), _ONE)
                visibility[light, i] = _ONE - blocked * np.float32(0.25)
    return visibility


@compiled()
@no_type_check
def _sort_into_cells(points, direction, rows, columns, heights):
    """Write each point's cell across a direction, and how far it lies along it."""
    lx, ly, lz = direction
    # Two axes across the direction (Duff et al. 2017, Building an orthonormal basis, revisited).
    sign = _ONE if lz >= 0 else -_ONE
    k = -_ONE / (sign + lz)
    size = np.float32(_CELL)
    ux, uy, uz = (_ONE + sign * lx * lx * k) / size, sign * lx * ly * k / size, -sign * lx / size
    vx, vy, vz = lx * ly * k / size, (sign + ly * ly * k) / size, -ly / size
    reach = np.float32(_CELLS // 2)
    for i in range(points.shape[1]):
        x, y, z = points[0, i], points[1, i], points[2, i]
        columns[i] = np.int32(x * ux + y * uy + z * uz + reach)
        rows[i] = np.int32(x * vx + y * vy + z * vz + reach)
        heights[i] = x * lx + y * ly + z * lz


@compiled()
@no_type_check
def _irradiance(normals, visibility, directions, colours, wrap):
    count = len(normals)
    received = np.zeros((3, count), np.float32)
    facing = np.empty(count, np.float32)
    for light in range(len(directions)):
        x, y, z = directions[light]
        for i in range(count):
            facing[i] = normals[i, 0] * x + normals[i, 1] * y + normals[i, 2] * z
        for channel in range(3):
            around = wrap[channel]
            colour = colours[light, channel] / (_ONE + around)
            for i in range(count):
                received[channel, i] += max(facing[i] + around, _ZERO) * visibility[light, i] * colour
    return received.T.copy()


@compiled()
@no_type_check
def _coverage(face_index, nearness, face_count):
    side = SAMPLES_PER_SIDE
    height, width = nearness.shape
    share = np.empty((height // side, width // side), np.uint8)
    seen = np.empty(width, np.uint8)
    for row in range(height // side):
        seen[:] = 0
        for y in range(side * row, side * row + side):
            for x in range(width):
                seen[x] += (nearness[y, x] > 0) & (face_index[y, x] < face_count)
        for column in range(width // side):
            count = 0
            for x in range(side * column, side * column + side):
                count += seen[x]
            share[row, column] = (255 * count + side * side // 2) // (side * side)
    return share


@compiled(error_model="numpy")
@no_type_check
def _paint(
    picture,
    depth,
    face_index,
    nearness,
    weights,
    faces,
    attributes,
    texture_index,
    textures,
    bodies,
    halfway,
    colour,
    even,
):
    hx, hy, hz = halfway
    key_r, key_g, key_b = colour
    for row in range(picture.shape[0]):
        upper_near, lower_near = nearness[2 * row], nearness[2 * row + 1]
        upper_face, lower_face = face_index[2 * row], face_index[2 * row + 1]
        for column in range(picture.shape[1]):
            x = 2 * column
            a, b, c, d = upper_near[x], upper_near[x + 1], lower_near[x], lower_near[x + 1]
            if a + b + c + d == 0:
                continue
            nearest = max(max(a, b), max(c, d))
            depth[row, column] = _ONE / nearest
            body = bodies[upper_face[x]] if min(min(a, b), min(c, d)) > even * nearest else -1
            if (
                body >= 0
                and bodies[upper_face[x + 1]] == body
                and bodies[lower_face[x]] == body
                and bodies[lower_face[x + 1]] == body
            ):
                face = upper_face[x]
                second, third = weights_at(weights, face, 2 * row, x, 1 / np.float64(a))
                red, green, blue, highlight = _shade(
                    face, second, third, faces, attributes, texture_index, textures, hx, hy, hz
                )
                picture[row, column, 0] = np.uint8(_encode(red + highlight * key_r) + _HALF)
                picture[row, column, 1] = np.uint8(_encode(green + highlight * key_g) + _HALF)
                picture[row, column, 2] = np.uint8(_encode(blue + highlight * key_b) + _HALF)
                continue

            covered, last = _ZERO, -1
            sum_r = sum_g = sum_b = red = green = blue = _ZERO
            for sample in range(4):
                side = x + (sample & 1)
                near = upper_near[side] if sample < 2 else lower_near[side]
                if near == 0:
                    continue
                face = upper_face[side] if sample < 2 else lower_face[side]
                if face != last:
                    last = face
                    second, third = weights_at(weights, face, 2 * row + (sample >> 1), side, 1 / np.float64(near))
                    red, green, blue, highlight = _shade(
                        face, second, third, faces, attributes, texture_index, textures, hx, hy, hz
                    )
                    red, green, blue = red + highlight * key_r, green + highlight * key_g, blue + highlight * key_b
                covered += _ONE
                sum_r += red
                sum_g += green
                sum_b += blue
            part, share = _ONE / covered, covered * np.float32(0.25)
            picture[row, column, 0] = _blend(picture[row, column, 0], sum_r * part, share)
            picture[row, column, 1] = _blend(picture[row, column, 1], sum_g * part, share)
            picture[row, column, 2] = _blend(picture[row, column, 2], sum_b * part, share)


@njit(nogil=True, inline="always")
@no_type_check
def _encode(linear):
    return np.float32(255) * min(np.sqrt(max(linear, _ZERO)), _ONE)


@njit(nogil=True, inline="always")
@no_type_check
def _blend(behind, linear, share):
    return np.uint8(np.float32(behind) + share * (_encode(linear) - np.float32(behind)) + _HALF)


@njit(nogil=True, inline="always")
@no_type_check
def _shade(face, second, third, faces, attributes, texture_index, textures, hx, hy, hz):
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    wj, wk = np.float32(second), np.float32(third)
    wi = _ONE - wj - wk
    texture = texture_index[face]
    u, v = min(max(int(wj * _TEXELS), 0), TEXELS - 1), min(max(int(wk * _TEXELS), 0), TEXELS - 1)
    lightness = (np.float32(textures[texture, u, v, 0]) - np.float32(NEUTRAL)) * np.float32(1 / 127)
    gloss = np.float32(textures[texture, u, v, 1]) * np.float32(1 / 255)

    r = wi * attributes[i, 0] + wj * attributes[j, 0] + wk * attributes[k, 0]
    g = wi * attributes[i, 1] + wj * attributes[j, 1] + wk * attributes[k, 1]
    b = wi * attributes[i, 2] + wj * attributes[j, 2] + wk * attributes[k, 2]
    nx = wi * attributes[i, 3] + wj * attributes[j, 3] + wk * attributes[k, 3]
    ny = wi * attributes[i, 4] + wj * attributes[j, 4] + wk * attributes[k, 4]
    nz = wi * attributes[i, 5] + wj * attributes[j, 5] + wk * attributes[k, 5]
    sheen = wi * attributes[i, 6] + wj * attributes[j, 6] + wk * attributes[k, 6]
    towards = max(nx * hx + ny * hy + nz * hz, _ZERO)
    power = towards * towards / (nx * nx + ny * ny + nz * nz + np.float32(1e-12))
    for _ in range(_SHARPNESS):
        power *= power

    # What darkens skin, blood and shade in the creases, takes least of the red.
    return (
        r * (_ONE + np.float32(0.4) * lightness),
        g * (_ONE + np.float32(0.55) * lightness),
        b * (_ONE + np.float32(0.6) * lightness),
        power * sheen * (_ONE + np.float32(4) * gloss),
    )
