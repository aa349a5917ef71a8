"""A z-buffered triangle rasterizer on the CPU, with what is needed to shade its output.

Not differentiable: it draws data and figures. For a differentiable silhouette see :mod:`hamr_lightning.renderers`.
Everything runs on the calling thread, without the interpreter lock.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32
from numba import njit

from hamr_lightning.compiled import compiled

_SUBPIXEL_BITS = 8
_SUBPIXELS = 1 << _SUBPIXEL_BITS
_FARTHEST_PX = 1 << 20


@dataclass(frozen=True)
class Visibility:
    """The nearest triangle in every pixel, and of every triangle that was drawn what is needed to shade it."""

    face_index: Int32[np.ndarray, "h w"]
    """Without meaning where nothing is."""
    nearness: Float32[np.ndarray, "h w"]
    """1 / z; 0 where nothing is."""
    weights: Float64[np.ndarray, "f 2 3"]
    """The perspective-correct weights of each triangle's second and third corner, divided by z, are the products of
    these rows with (column, row, 1)."""

    @classmethod
    def empty(cls, height: int, width: int, face_count: int) -> "Visibility":
        """Return a picture with nothing in it yet of so many triangles."""
        return cls(
            np.empty((height, width), np.int32),
            np.zeros((height, width), np.float32),
            np.empty((face_count, 2, 3)),
        )


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle in every pixel, and where it is hit."""

    face_index: Int32[np.ndarray, "h w"]
    """-1 where nothing is."""
    barycentric: Float32[np.ndarray, "h w 3"]
    """Perspective-correct weights of the triangle's corners; 0 where nothing is."""
    depth: Float32[np.ndarray, "h w"]
    """In the unit of the points' z; infinite where nothing is."""


def rasterize(points_px: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], height: int, width: int) -> Fragments:
    """Find the nearest triangle at the centre of every pixel; see :func:`draw`."""
    visibility = Visibility.empty(height, width, len(faces))
    draw(visibility, points_px, faces, np.arange(len(faces), dtype=np.int32))
    return Fragments(*_fragments(visibility.face_index, visibility.nearness, visibility.weights))


def draw(
    visibility: Visibility,
    points_px: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    chosen: Int32[np.ndarray, "c"],
) -> None:
    """Draw some of a mesh's triangles, seen from either side, over those that ``visibility`` holds already.

    Points are (x, y) in pixels, pixel i spanning [i, i + 1), and z > 0 along the viewing axis. Interpolation is
    perspective-correct; for an orthographic picture add a constant to z that is large beside the mesh. Points are
    rounded to 1/256 pixel, and an edge belongs to the triangle below or right of it: triangles that share an edge leave
    no gap and share no pixel. Of equally near triangles the first stays. Left out are triangles without area and those
    with a corner that is not finite, has z <= 0 or lies 2**20 pixels or more away.

    Args:
        visibility: Changed in place.
        points_px: The mesh's vertices.
        faces: Indices of points, of all triangles that ``visibility`` has room for.
        chosen: Which of the triangles to draw.

    Raises:
        ValueError: If ``faces`` names a point or ``chosen`` a triangle that does not exist.
    """
    _check_faces(faces, len(points_px))
    if chosen.size and (chosen.min() < 0 or chosen.max() >= len(faces)):
        raise ValueError(f"chosen must lie in [0, {len(faces)}), got {chosen.min()} to {chosen.max()}")
    if len(faces) > len(visibility.weights):
        raise ValueError(f"visibility has room for {len(visibility.weights)} faces, got {len(faces)}")
    _draw(
        np.ascontiguousarray(points_px, np.float64),
        np.ascontiguousarray(faces, np.int32),
        chosen,
        visibility.face_index,
        visibility.nearness,
        visibility.weights,
    )


def front_facing(points_px: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Int32[np.ndarray, "c"]:
    """Return the triangles that are counter-clockwise as the camera sees them, of meshes that are so from outside.

    Where closed meshes are drawn, these alone cover what all cover: what faces away lies behind.

    Raises:
        ValueError: If ``faces`` names a point that does not exist.
    """
    _check_faces(faces, len(points_px))
    return _front_facing(np.ascontiguousarray(points_px, np.float64), np.ascontiguousarray(faces, np.int32))


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float32[np.ndarray, "v 3"]:
    """Return unit normals, the mean of the adjoining triangles' weighted by area; 0 where that has no direction.

    They point to the side from which the triangles are counter-clockwise (in right-handed axes).

    Raises:
        ValueError: If ``faces`` names a vertex that does not exist.
    """
    _check_faces(faces, len(vertices))
    return _vertex_normals(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32))


def interpolate(
    fragments: Fragments, faces: Int[np.ndarray, "f 3"], attributes: Float[np.ndarray, "v c"]
) -> Float32[np.ndarray, "h w c"]:
    """Interpolate values given at the vertices over the picture; 0 where nothing is.

    Raises:
        ValueError: If ``faces`` names a vertex that does not exist, or the picture shows more triangles.
    """
    _check_faces(faces, len(attributes))
    if fragments.face_index.max(initial=-1) >= len(faces):
        raise ValueError(f"the picture shows triangle {fragments.face_index.max()}, but faces has only {len(faces)}")
    return _interpolate(
        fragments.face_index,
        fragments.barycentric,
        np.ascontiguousarray(faces, np.int32),
        np.ascontiguousarray(attributes, np.float32),
    )


def shade(
    fragments: Fragments,
    faces: Int[np.ndarray, "f 3"],
    normals: Float[np.ndarray, "v 3"],
    to_light: tuple[float, float, float] = (-0.4, -0.6, -0.7),
    ambient: float = 0.3,
) -> Float32[np.ndarray, "h w"]:
    """Return each pixel's brightness in [0, 1] under a directional and an ambient light; 0 where nothing is.

    Normals are interpolated (Phong shading) and lit half-Lambert, so that no side is flat black.

    Args:
        fragments: The rasterized picture.
        faces: The triangles that were drawn.
        normals: Unit normals of the vertices, camera axes (x right, y down, z forward).
        to_light: Direction towards the light in camera axes, of any length but 0.
        ambient: Share of the light, in [0, 1], that comes from everywhere.
    """
    direction = np.asarray(to_light, np.float32) / np.linalg.norm(to_light)
    normal = interpolate(fragments, faces, normals)
    length = np.maximum(np.linalg.norm(normal, axis=-1), 1e-6)
    lit = np.square(0.5 + 0.5 * (normal @ direction) / length)
    brightness = ambient + (1 - ambient) * lit
    return np.where(fragments.face_index >= 0, brightness, 0).astype(np.float32)


def _check_faces(faces: Int[np.ndarray, "f 3"], count: int) -> None:
    if faces.size:
        least, greatest = _extremes(faces)
        if least < 0 or greatest >= count:
            raise ValueError(f"faces must lie in [0, {count}), got {least} to {greatest}")


@compiled()
@no_type_check
def _extremes(faces):
    least = greatest = faces[0, 0]
    for face in range(len(faces)):
        for corner in range(3):
            least, greatest = min(least, faces[face, corner]), max(greatest, faces[face, corner])
    return least, greatest


@compiled(error_model="numpy")
@no_type_check
def _draw(points, faces, chosen, face_index, nearness, weights):
    height, width = nearness.shape
    usable = np.zeros(len(points), np.bool_)
    corner = np.zeros((len(points), 2), np.int64)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        usable[i] = abs(x) < _FARTHEST_PX and abs(y) < _FARTHEST_PX and 0 < z < np.inf
        if usable[i]:
            corner[i, 0] = round(x * _SUBPIXELS) - _SUBPIXELS // 2
            corner[i, 1] = round(y * _SUBPIXELS) - _SUBPIXELS // 2

    for face in chosen:
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        if not (usable[a] and usable[b] and usable[c]):
            continue
        ax, ay, bx, by, cx, cy = corner[a, 0], corner[a, 1], corner[b, 0], corner[b, 1], corner[c, 0], corner[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        top, bottom = max(_first_pixel(min(ay, by, cy)), 0), min(_first_pixel(max(ay, by, cy)), height)
        left, right = max(_first_pixel(min(ax, bx, cx)), 0), min(_first_pixel(max(ax, bx, cx) + 1), width)
        if area == 0 or left >= right or top >= bottom:
            continue

        # Edge functions, positive inside: their growth by column and by row, and their value at the first pixel.
        facing = 1 if area > 0 else -1
        edge_a = (by - cy) * _SUBPIXELS * facing, (cx - bx) * _SUBPIXELS * facing, (bx * cy - cx * by) * facing
        edge_b = (cy - ay) * _SUBPIXELS * facing, (ax - cx) * _SUBPIXELS * facing, (cx * ay - ax * cy) * facing
        edge_c = (ay - by) * _SUBPIXELS * facing, (bx - ax) * _SUBPIXELS * facing, (ax * by - bx * ay) * facing
        area *= facing
        near_a, near_b, near_c = 1 / (area * points[a, 2]), 1 / (area * points[b, 2]), 1 / (area * points[c, 2])
        near_x = edge_a[0] * near_a + edge_b[0] * near_b + edge_c[0] * near_c
        near_y = edge_a[1] * near_a + edge_b[1] * near_b + edge_c[1] * near_c
        near_0 = edge_a[2] * near_a + edge_b[2] * near_b + edge_c[2] * near_c
        for i in range(3):
            weights[face, 0, i] = edge_b[i] * near_b
            weights[face, 1, i] = edge_c[i] * near_c

        # Every row's span, from the last left edge to the first right one. The edge functions are integers: half of one
        # decides over those that are 0 and keeps rounding from deciding. Neighbours compute the same number for the
        # edge that they share.
        start_1 = start_2 = float(left)
        end_1 = end_2 = float(right)
        start_1_y = start_2_y = end_1_y = end_2_y = 0.0
        for x, y, value in (edge_a, edge_b, edge_c):
            if x > 0:
                start_2, start_2_y = start_1, start_1_y
                start_1, start_1_y = -(value + 0.5) / x, -y / x
            elif x < 0:
                end_2, end_2_y = end_1, end_1_y
                end_1, end_1_y = -(value - 0.5) / x, -y / x
        for row in range(top, bottom):
            start = max(math.ceil(max(start_1 + row * start_1_y, start_2 + row * start_2_y)), left)
            end = min(math.ceil(min(end_1 + row * end_1_y, end_2 + row * end_2_y)), right)
            near = near_0 + row * near_y + start * near_x
            for column in range(start, end):
                if np.float32(near) > nearness[row, column]:
                    nearness[row, column] = near
                    face_index[row, column] = face
                near += near_x


@njit(nogil=True, inline="always")
@no_type_check
def _first_pixel(subpixel):
    """The first pixel whose centre does not lie before a place, which is counted from the first centre of all."""
    return (subpixel + _SUBPIXELS - 1) >> _SUBPIXEL_BITS


@compiled()
@no_type_check
def _front_facing(points, faces):
    chosen = np.empty(len(faces), np.int32)
    count = 0
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        x, y = points[a, 0], points[a, 1]
        if (points[b, 0] - x) * (points[c, 1] - y) < (points[b, 1] - y) * (points[c, 0] - x):
            chosen[count] = face
            count += 1
    return chosen[:count]


@compiled()
@no_type_check
def _fragments(face_index, nearness, weights):
    height, width = nearness.shape
    index = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    for row in range(height):
        for column in range(width):
            if nearness[row, column] > 0:
                face = face_index[row, column]
                z = 1 / nearness[row, column]
                second, third = weights_at(weights, face, row, column, z)
                index[row, column] = face
                barycentric[row, column] = 1 - second - third, second, third
                depth[row, column] = z
    return index, barycentric, depth


@njit(nogil=True, inline="always")
@no_type_check
def weights_at(weights, face, row, column, z):
    """Return the weights of a triangle's second and third corner at a pixel; see :attr:`Visibility.weights`."""
    second = (weights[face, 0, 0] * column + weights[face, 0, 1] * row + weights[face, 0, 2]) * z
    third = (weights[face, 1, 0] * column + weights[face, 1, 1] * row + weights[face, 1, 2]) * z
    return second, third


@compiled()
@no_type_check
def _vertex_normals(vertices, faces):
    normals = np.zeros((len(vertices), 3), np.float32)
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        x, y, z = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        ux, uy, uz = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        vx, vy, vz = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        for corner in (a, b, c):
            normals[corner, 0] += uy * vz - uz * vy
            normals[corner, 1] += uz * vx - ux * vz
            normals[corner, 2] += ux * vy - uy * vx
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0:
            for axis in range(3):
                normals[i, axis] /= length
    return normals


@compiled()
@no_type_check
def _interpolate(face_index, barycentric, faces, attributes):
    height, width = face_index.shape
    channels = attributes.shape[1]
    result = np.zeros((height, width, channels), np.float32)
    for row in range(height):
        for column in range(width):
            face = face_index[row, column]
            if face >= 0:
                a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
                wa, wb, wc = barycentric[row, column]
                for channel in range(channels):
                    result[row, column, channel] = (
                        wa * attributes[a, channel] + wb * attributes[b, channel] + wc * attributes[c, channel]
                    )
    return result
