"""A z-buffered triangle rasterizer on the CPU, with what is needed to shade its output.

Not differentiable: it draws data and figures. For a differentiable silhouette see :mod:`hamr_lightning.renderers`.
Everything runs on the calling thread, without the interpreter lock.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int, Int32
from numba import njit

_SUBPIXEL_BITS = 8
_SUBPIXELS = 1 << _SUBPIXEL_BITS
_FARTHEST_PX = 1 << 20


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle in every pixel."""

    face_index: Int32[np.ndarray, "h w"]
    """-1 where nothing is."""
    barycentric: Float32[np.ndarray, "h w 3"]
    """Perspective-correct weights of the triangle's corners; 0 where nothing is."""
    depth: Float32[np.ndarray, "h w"]
    """In the unit of the points' z; infinite where nothing is."""

    @classmethod
    def empty(cls, height: int, width: int) -> "Fragments":
        """Return a picture with nothing in it."""
        return cls(
            np.full((height, width), -1, np.int32),
            np.zeros((height, width, 3), np.float32),
            np.full((height, width), np.inf, np.float32),
        )


def rasterize(points_px: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], height: int, width: int) -> Fragments:
    """Find the nearest triangle at the centre of every pixel; see :func:`draw`."""
    fragments = Fragments.empty(height, width)
    draw(fragments, points_px, faces)
    return fragments


def draw(
    fragments: Fragments,
    points_px: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    first_index: int = 0,
) -> None:
    """Draw triangles, seen from either side, over what ``fragments`` holds already.

    Points are (x, y) in pixels, pixel i spanning [i, i + 1), and z > 0 along the viewing axis. Interpolation is
    perspective-correct; for an orthographic picture add a constant to z that is large beside the mesh. Points are
    rounded to 1/256 pixel and tested in integers, an edge belonging to the triangle below or right of it: triangles
    that share an edge leave no gap and share no pixel. Of equally near triangles the first stays. Left out are
    triangles without area and those with a corner that is not finite, has z <= 0 or lies 2**20 pixels or more away.

    Args:
        fragments: Changed in place.
        points_px: The triangles' corners.
        faces: Indices of points.
        first_index: What is written for the first of ``faces``; the others count up from it.

    Raises:
        ValueError: If ``faces`` names a point that does not exist.
    """
    _check_faces(faces, len(points_px))
    _draw(
        np.ascontiguousarray(points_px, np.float64),
        np.ascontiguousarray(faces, np.int32),
        first_index,
        fragments.face_index,
        fragments.barycentric,
        fragments.depth,
    )


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
    if faces.size and (faces.min() < 0 or faces.max() >= count):
        raise ValueError(f"faces must lie in [0, {count}), got {faces.min()} to {faces.max()}")


@njit(nogil=True, cache=True)
@no_type_check
def _draw(points, faces, first_index, face_index, barycentric, depth):
    height, width = depth.shape
    usable = np.zeros(len(points), np.bool_)
    corner = np.zeros((len(points), 2), np.int64)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        usable[i] = abs(x) < _FARTHEST_PX and abs(y) < _FARTHEST_PX and 0 < z < np.inf
        if usable[i]:
            corner[i, 0] = round(x * _SUBPIXELS)
            corner[i, 1] = round(y * _SUBPIXELS)

    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        if not (usable[a] and usable[b] and usable[c]):
            continue
        ax, ay, bx, by, cx, cy = corner[a, 0], corner[a, 1], corner[b, 0], corner[b, 1], corner[c, 0], corner[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        second, third = 1, 2
        if area < 0:
            area = -area
            b, c, bx, by, cx, cy, second, third = c, b, cx, cy, bx, by, 2, 1
        left, right = _pixel_range(ax, bx, cx, width)
        top, bottom = _pixel_range(ay, by, cy, height)
        if left >= right or top >= bottom:
            continue

        x = (left << _SUBPIXEL_BITS) + _SUBPIXELS // 2
        y = (top << _SUBPIXEL_BITS) + _SUBPIXELS // 2
        row_a = (cx - bx) * (y - by) - (cy - by) * (x - bx)
        row_b = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
        row_c = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        least_a, least_b, least_c = _least(bx, by, cx, cy), _least(cx, cy, ax, ay), _least(ax, ay, bx, by)
        right_a, right_b, right_c = (by - cy) * _SUBPIXELS, (cy - ay) * _SUBPIXELS, (ay - by) * _SUBPIXELS
        down_a, down_b, down_c = (cx - bx) * _SUBPIXELS, (ax - cx) * _SUBPIXELS, (bx - ax) * _SUBPIXELS
        near_a, near_b, near_c = 1 / (area * points[a, 2]), 1 / (area * points[b, 2]), 1 / (area * points[c, 2])
        for row in range(top, bottom):
            in_a, in_b, in_c = row_a, row_b, row_c
            for column in range(left, right):
                if (in_a - least_a) | (in_b - least_b) | (in_c - least_c) >= 0:
                    weight_a, weight_b, weight_c = in_a * near_a, in_b * near_b, in_c * near_c
                    total = weight_a + weight_b + weight_c
                    z = np.float32(1 / total) if total > 0 else np.float32(np.inf)
                    if z < depth[row, column]:
                        depth[row, column] = z
                        face_index[row, column] = first_index + face
                        barycentric[row, column, 0] = weight_a * z
                        barycentric[row, column, second] = weight_b * z
                        barycentric[row, column, third] = weight_c * z
                in_a += right_a
                in_b += right_b
                in_c += right_c
            row_a += down_a
            row_b += down_b
            row_c += down_c


@njit(nogil=True, inline="always")
@no_type_check
def _pixel_range(a, b, c, size):
    half = _SUBPIXELS // 2
    first = (min(a, b, c) - half + _SUBPIXELS - 1) >> _SUBPIXEL_BITS
    last = (max(a, b, c) - half) >> _SUBPIXEL_BITS
    return max(first, 0), min(last + 1, size)


@njit(nogil=True, inline="always")
@no_type_check
def _least(x0, y0, x1, y1):
    """The least edge function of a pixel inside: 0 for a top or a left edge, whose own points belong to it."""
    return 0 if y1 < y0 or (y1 == y0 and x1 > x0) else 1


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
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
