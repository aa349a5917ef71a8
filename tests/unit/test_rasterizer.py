"""The rasterizer against a brute-force test of every pixel centre against every triangle, in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from hamr_lightning.rasterizer import Visibility, draw, front_facing, interpolate, rasterize, shade, vertex_normals

HEIGHT, WIDTH = 17, 23


def on_grid(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points on the rasterizer's sub-pixel grid, so that the oracle sees what it sees."""
    xy = np.round(rng.uniform([-4, -4], [WIDTH + 4, HEIGHT + 4], (count, 2)) * 256) / 256
    return np.concatenate([xy, rng.uniform(0.3, 2, (count, 1))], axis=1)


def brute_force(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest triangle, its perspective-correct weights and depth, by solving for barycentric coordinates."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    centres = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows, float)], axis=-1)
    face_index = np.full((HEIGHT, WIDTH), -1)
    weights = np.zeros((HEIGHT, WIDTH, 3))
    depth = np.full((HEIGHT, WIDTH), np.inf)
    for index, face in enumerate(faces):
        corners = points[face]
        matrix = np.vstack([corners[:, :2].T, np.ones(3)])
        if abs(np.linalg.det(matrix)) < 1e-12:
            continue
        screen = centres @ np.linalg.inv(matrix).T
        z = 1 / (screen @ (1 / corners[:, 2]))
        nearer = (screen > 0).all(-1) & (z < depth)
        face_index[nearer], depth[nearer] = index, z[nearer]
        weights[nearer] = (screen / corners[:, 2] * z[..., None])[nearer]
    return face_index, weights, depth


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, faces = on_grid(rng, 30), rng.integers(0, 30, (25, 3))
    fragments = rasterize(points, faces, HEIGHT, WIDTH)
    face_index, weights, depth = brute_force(points, faces)
    differing = fragments.face_index != face_index
    assert differing.mean() < 0.01  # centres exactly on an edge, which the oracle gives to no triangle
    same = ~differing & (face_index >= 0)
    assert same.mean() > 0.3
    np.testing.assert_allclose(fragments.barycentric[same], weights[same], atol=1e-5)
    np.testing.assert_allclose(fragments.depth[same], depth[same], rtol=1e-5)
    empty = fragments.face_index < 0
    assert np.isinf(fragments.depth[empty]).all()
    assert not fragments.barycentric[empty].any()


def inside_half_open(points: list[tuple[Fraction, Fraction]], x: Fraction, y: Fraction) -> bool:
    """Even-odd crossing test, the textbook half-open rule: it gives a shared edge to one side only."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def test_triangles_sharing_edges_leave_no_gap_and_share_no_pixel() -> None:
    """A fan around a pixel's centre, with corners and edges on pixel centres: each pixel is drawn exactly once."""
    size = 9
    rim = [(0.5, 0.5), (4.5, 0.5), (8.5, 0.5), (8.5, 4.5), (8.5, 8.5), (4.5, 8.5), (0.5, 8.5), (0.5, 4.5)]
    points = np.array([(4.5, 4.5, 1.0), *((x, y, 1.0) for x, y in rim)])
    counts = np.zeros((size, size), int)
    for i in range(8):
        face = np.array([[0, 1 + i, 1 + (i + 1) % 8]])
        counts += rasterize(points, face, size, size).face_index >= 0
    rows, columns = np.mgrid[:size, :size]
    np.testing.assert_array_equal(counts, (rows < size - 1) & (columns < size - 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_polygon_of_slivers_is_filled_as_the_polygon(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    rim = np.round((8 + 7.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)) * 256) / 256
    points = np.concatenate([rim, np.ones((40, 1))], axis=1)
    faces = np.array([(0, i, i + 1) for i in range(1, 39)])
    counts = sum((rasterize(points, face[None], 16, 16).face_index >= 0).astype(int) for face in faces)
    polygon = [(Fraction(x), Fraction(y)) for x, y in rim.tolist()]
    expected = [
        [inside_half_open(polygon, Fraction(2 * c + 1, 2), Fraction(2 * r + 1, 2)) for c in range(16)]
        for r in range(16)
    ]
    np.testing.assert_array_equal(counts, np.array(expected, int))


def test_unusable_triangles_are_left_out_and_the_others_drawn() -> None:
    good = [(2.0, 2.0, 1.0), (20.0, 3.0, 1.0), (4.0, 15.0, 1.0)]
    bad = [
        (np.nan, 2.0, 1.0),
        (5.0, np.inf, 1.0),
        (5.0, 5.0, -1.0),
        (5.0, 5.0, 0.0),
        (1e30, 5.0, 1.0),
        (5.0, 5.0, np.nan),
    ]
    points = np.array(good + bad)
    faces = np.array([(0, 1, 2), *((0, 1, 3 + i) for i in range(len(bad))), (0, 0, 1), (1, 1, 1)])
    alone = rasterize(points[:3], faces[:1], HEIGHT, WIDTH)
    together = rasterize(points, faces, HEIGHT, WIDTH)
    np.testing.assert_array_equal(alone.face_index, together.face_index)
    np.testing.assert_array_equal(alone.depth, together.depth)
    assert (together.face_index == 0).sum() > 50


def test_triangles_far_larger_than_the_picture_or_outside_it_are_clipped() -> None:
    points = np.array([(-1e5, -1e5, 1.0), (1e6, 0.0, 1.0), (0.0, 1e6, 1.0), (900.0, 900.0, 1.0)])
    assert (rasterize(points, np.array([[0, 1, 2]]), HEIGHT, WIDTH).face_index == 0).all()
    assert (rasterize(points, np.array([[1, 2, 3]]), HEIGHT, WIDTH).face_index == -1).all()


def test_drawing_in_two_steps_is_drawing_at_once() -> None:
    rng = np.random.default_rng(7)
    points, faces = on_grid(rng, 30), rng.integers(0, 30, (20, 3))
    visibility = Visibility.empty(HEIGHT, WIDTH, 20)
    draw(visibility, points, faces, np.arange(8, dtype=np.int32))
    draw(visibility, points, faces, np.arange(8, 20, dtype=np.int32))
    at_once = rasterize(points, faces, HEIGHT, WIDTH)
    drawn = at_once.face_index >= 0
    np.testing.assert_array_equal(visibility.nearness > 0, drawn)
    np.testing.assert_array_equal(visibility.face_index[drawn], at_once.face_index[drawn])
    np.testing.assert_allclose(visibility.nearness[drawn], 1 / at_once.depth[drawn], rtol=1e-6)


def test_of_a_closed_mesh_the_triangles_that_face_the_camera_are_the_nearest() -> None:
    """A tetrahedron, counter-clockwise from outside."""
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points = rng.uniform([1, 1, 1], [20, 15, 2], (4, 3))
        a, b, c, d = points
        if np.dot(np.cross(b - a, c - a), d - a) < 0:
            points[[0, 1]] = points[[1, 0]]
        visibility = Visibility.empty(HEIGHT, WIDTH, 4)
        chosen = front_facing(points, faces)
        assert 1 <= len(chosen) <= 3
        draw(visibility, points, faces, chosen)
        expected = rasterize(points, faces, HEIGHT, WIDTH).face_index
        np.testing.assert_array_equal(np.where(visibility.nearness > 0, visibility.face_index, -1), expected)


def test_faces_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 3\), got 0 to 3"):
        rasterize(np.ones((3, 3)), np.array([[0, 1, 3]]), 4, 4)
    with pytest.raises(ValueError, match="got -1"):
        vertex_normals(np.ones((3, 3)), np.array([[0, 1, -1]]))
    points = np.array([(0.0, 0, 1), (9, 0, 1), (0, 9, 1)])
    fragments = rasterize(points, np.array([[1, 1, 1], [0, 1, 2]]), 4, 4)
    with pytest.raises(ValueError, match="triangle 1, but faces has only 1"):
        interpolate(fragments, np.array([[0, 1, 2]]), points)


def test_interpolation_recovers_the_ray_through_each_pixel() -> None:
    """Perspective-correct: points interpolated over a tilted triangle lie on the rays that their pixels see."""
    focal = 20.0
    corners = np.array([(-0.5, -0.4, 0.9), (0.7, -0.3, 2.5), (-0.1, 0.6, 1.4)])
    points = np.column_stack([focal * corners[:, :2] / corners[:, 2:] + [WIDTH / 2, HEIGHT / 2], corners[:, 2]])
    faces = np.array([[0, 2, 1]])
    fragments = rasterize(points, faces, HEIGHT, WIDTH)
    position = interpolate(fragments, faces, corners)
    rows, columns = np.nonzero(fragments.face_index >= 0)
    hit = position[rows, columns]
    seen = focal * hit[:, :2] / hit[:, 2:] + [WIDTH / 2, HEIGHT / 2]
    assert len(rows) > 30
    np.testing.assert_allclose(seen, np.stack([columns, rows], axis=1) + 0.5, atol=0.02)
    np.testing.assert_allclose(hit[:, 2], fragments.depth[rows, columns], rtol=1e-4)


def test_normals_of_a_sphere_point_outwards() -> None:
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(400, 3))
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    hull = ConvexHull(vertices)
    corners = vertices[hull.simplices]
    outward = np.einsum(
        "ij,ij->i", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    faces = np.where(outward[:, None] > 0, hull.simplices, hull.simplices[:, ::-1])
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert (np.einsum("ij,ij->i", normals, vertices) > 0.9).all()


def test_shading_is_brightest_where_the_surface_faces_the_light() -> None:
    points = np.array([(1.0, 1.0, 1.0), (9.0, 1.0, 1.0), (1.0, 9.0, 1.0), (9.0, 9.0, 1.0)])
    faces = np.array([(0, 2, 1), (3, 1, 2)])
    fragments = rasterize(points, faces, 10, 10)
    normals = vertex_normals(points, faces)
    np.testing.assert_allclose(normals, np.tile([0, 0, -1], (4, 1)), atol=1e-6)
    facing = shade(fragments, faces, normals, to_light=(0.0, 0.0, -2.0))
    averted = shade(fragments, faces, normals, to_light=(0.0, 0.0, 1.0), ambient=0.25)
    drawn = fragments.face_index >= 0
    np.testing.assert_allclose(facing[drawn], 1, atol=1e-5)
    np.testing.assert_allclose(averted[drawn], 0.25, atol=1e-5)
    assert not facing[~drawn].any()


def test_more_faces_than_there_is_room_for_are_refused() -> None:
    points, faces = np.ones((3, 3)), np.tile([0, 1, 2], (5, 1))
    with pytest.raises(ValueError, match="room for 4 faces, got 5"):
        draw(Visibility.empty(HEIGHT, WIDTH, 4), points, faces, np.arange(5, dtype=np.int32))
