"""The pieces of which rendered samples are put together: meshes, skin, light and lens."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hamr_lightning.data.rendering.lens import Lens, _smear
from hamr_lightning.data.rendering.props import (
    ARM_STATIONS,
    arm_body,
    arm_girths,
    bend_arm,
    boundary_loop,
    loop_axis,
    solid_bodies,
)
from hamr_lightning.data.rendering.scene import Stage
from hamr_lightning.data.rendering.scenery import octave_noise, procedural_background
from hamr_lightning.data.rendering.shading import Lights, Surface, irradiance, paint, soft_visibility
from hamr_lightning.data.rendering.skin import paint_hand, skin_reflectance
from hamr_lightning.data.rendering.textures import NEUTRAL, TextureBank, noise, per_texel
from hamr_lightning.hand_model import HandModel
from hamr_lightning.rasterizer import Visibility, draw, vertex_normals


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return HandModel.load("open")


def open_edges(faces: np.ndarray) -> set[tuple[int, int]]:
    edges = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    return {(a, b) for a, b in edges if (b, a) not in edges}


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return float(np.einsum("fk,fk->", a, np.cross(b, c)) / 6)


class TestForearm:
    def test_it_continues_the_hand_without_a_seam_and_with_the_same_sense(self, hand: HandModel) -> None:
        loop = boundary_loop(hand.faces)
        assert len(loop) == 16
        arm = arm_body(len(loop), TextureBank(), np.random.default_rng(0)).faces
        ring = dict(enumerate(loop.tolist()))
        joined = np.array([[ring.get(corner, 778 + corner) for corner in face] for face in arm.tolist()])
        still_open = open_edges(np.concatenate([hand.faces, joined]))
        assert len(still_open) == 16
        assert min(corner for edge in still_open for corner in edge) >= 778

    def test_the_wrists_axis_points_away_from_the_fingers(self, hand: HandModel) -> None:
        axis = loop_axis(hand.vertices[boundary_loop(hand.faces)])
        assert axis[0] > 0.9

    def test_it_starts_at_the_wrist_and_takes_the_directions_given(self, hand: HandModel) -> None:
        loop = hand.vertices[boundary_loop(hand.faces)]
        forearm, upper_arm = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.6, 0.8])
        rings = bend_arm(loop, forearm, upper_arm, ARM_STATIONS, arm_girths(ARM_STATIONS)).reshape(-1, 16, 3)
        np.testing.assert_allclose(rings[0], loop, atol=1e-9)
        centres = dict(zip(ARM_STATIONS.tolist(), rings.mean(axis=1), strict=True))
        np.testing.assert_allclose(centres[0.18] - centres[0.07], 0.11 * forearm, atol=1e-3)
        np.testing.assert_allclose(centres[0.8] - centres[0.6], 0.2 * upper_arm, atol=1e-3)
        widths = np.linalg.norm(rings - rings.mean(axis=1, keepdims=True), axis=2).mean(axis=1)
        assert ((widths > 0.8 * widths[0]) & (widths < 1.6 * widths[0])).all()

    def test_a_mesh_without_exactly_one_opening_is_refused(self, hand: HandModel) -> None:
        tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        with pytest.raises(ValueError, match="closed"):
            boundary_loop(tetrahedron)
        with pytest.raises(ValueError, match="other openings"):
            boundary_loop(np.concatenate([hand.faces, 800 + tetrahedron[:3]]))


def test_solids_are_closed_and_turned_outwards() -> None:
    bodies = solid_bodies(TextureBank(), np.random.default_rng(0))
    volumes = [volume(body.vertices, body.faces) for body in bodies]
    # A ball and a cylinder of flat sides are a little smaller than round ones.
    np.testing.assert_allclose(volumes, [8, 2 * np.pi, 4 / 3 * np.pi], rtol=0.05)
    for body in bodies:
        normals = vertex_normals(body.vertices, body.faces)
        assert (np.einsum("vk,vk->v", normals, body.vertices) > -1e-6).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_is_lit_from_outside(hand: HandModel, seed: int) -> None:
    stage = Stage(hand, np.random.default_rng(0))
    turned = hand.vertices * [-1, 1, -1] + np.array([0, 0, 0.5])
    scene = stage.set_scene(turned, 2, np.random.default_rng(seed))
    assert scene.first_thing == 1554
    assert scene.first_arm > scene.first_thing
    assert len(scene.texture_index) == len(scene.faces)
    bodies = scene.body_index[scene.first_thing : scene.first_arm]
    assert len(np.unique(bodies)) == 2
    for body in np.unique(bodies):
        corners = scene.vertices[scene.faces[scene.body_index == body]]
        assert np.linalg.norm(corners - corners[0, 0], axis=-1).max() < 0.12
    assert np.isfinite(scene.reflectance).all()
    arm = scene.vertices[scene.faces[scene.first_arm :]]
    assert np.linalg.norm(np.diff(arm, axis=1), axis=-1).max() < 0.35
    assert scene.texture_index.max() < len(stage.textures)
    grown = turned + 0.001 * scene.normals[:778]
    assert volume(grown, hand.faces) > volume(turned, hand.faces)
    np.testing.assert_allclose(np.linalg.norm(scene.normals[:778], axis=1), 1, atol=0.3)


class TestSkin:
    def test_melanin_darkens_and_blood_reddens(self) -> None:
        pale, brown, dark = skin_reflectance(np.array([0.0, 0.8, 2.0]), np.full(3, 0.5))
        assert (pale > brown).all()
        assert (brown > dark).all()
        assert 0.35 < pale.mean() < 0.75
        assert dark.mean() < 0.1
        for skin in (pale, brown, dark):
            assert skin[0] > skin[1] > skin[2]
        flushed = skin_reflectance(np.array([0.0]), np.array([1.5]))[0]
        assert flushed[0] / flushed[1] > pale[0] / pale[1]

    def test_palms_are_paler_and_nails_lie_on_the_backs_of_the_finger_tips(self, hand: HandModel) -> None:
        bank = TextureBank()
        paint = paint_hand(hand, bank, np.random.default_rng(0))
        normals = vertex_normals(hand.vertices, hand.faces)
        wrist, knuckle = (hand.joint_regressor @ hand.vertices)[[0, 4], 0]
        of_palm = (hand.skinning_weights[:, 0] > 0.9) & (hand.vertices[:, 0] < (wrist + knuckle) / 2)
        assert (
            paint.melanin[of_palm & (normals[:, 1] < -0.8)].max() < paint.melanin[of_palm & (normals[:, 1] > 0.8)].min()
        )
        nail = bank.stack()[paint.texture_rows[0] :][:1538, ..., 1].reshape(-1) > 200
        places = per_texel(hand.vertices, hand.faces)[nail]
        facing = per_texel(normals, hand.faces)[nail]
        distances = np.linalg.norm(places[:, None] - hand.vertices[hand.fingertips], axis=2)
        assert distances.min(axis=1).max() < 0.025
        assert (np.bincount(distances.argmin(axis=1), minlength=5) > 100).all()
        fingers = distances.argmin(axis=1) > 0
        assert (facing[fingers, 1] > 0).all()


def test_noise_is_continuous_and_of_unit_range() -> None:
    line = np.zeros((2000, 3))
    line[:, 0] = np.linspace(-0.3, 0.3, 2000)
    values = noise(line, 0.01, np.random.default_rng(0))
    assert np.abs(np.diff(values)).max() < 2 * 0.6 / 2000 / 0.01 + 1e-4
    assert values.std() > 0.2
    assert np.abs(values).max() <= 1


class TestLight:
    overhead = Lights(np.array([[0, -1, 0]], np.float32), np.array([[1, 0.5, 0.25]], np.float32))

    def test_without_wrap_irradiance_is_lamberts(self) -> None:
        normals = Rotation.random(50, rng=0).apply([0, 0, 1]).astype(np.float32)
        visibility = np.linspace(0, 1, 50, dtype=np.float32)[None]
        received = irradiance(normals, visibility, self.overhead, np.zeros(3, np.float32))
        expected = np.maximum(normals @ [0, -1, 0], 0) * visibility[0]
        np.testing.assert_allclose(received, expected[:, None] * [1, 0.5, 0.25], atol=1e-6)

    @pytest.mark.parametrize("direction", [(0, -1, 0), (0, 0, 1), (0, 0, -1), (0.6, 0, -0.8)])
    def test_what_lies_behind_a_plate_is_in_its_shade(self, direction: tuple[float, float, float]) -> None:
        to_light = np.array(direction, float)
        turn, _ = Rotation.align_vectors(to_light, [0, 0, 1])
        side = np.linspace(-0.03, 0.03, 13)
        plate = turn.apply(np.stack([*np.meshgrid(side, side), np.zeros((13, 13))], axis=-1).reshape(-1, 3))
        points = turn.apply([[0, 0, -0.05], [0, 0, 0.05], [0.06, 0, -0.05], [0.5, 0, -0.05]])
        lights = Lights(to_light[None].astype(np.float32), np.ones((1, 3), np.float32))
        np.testing.assert_allclose(soft_visibility(points, plate, lights)[0], [0, 1, 1, 1], atol=1e-5)
        np.testing.assert_allclose(soft_visibility(plate, plate, lights)[0], 1, atol=1e-5)

    def test_paint_mixes_what_two_bodies_show_in_one_pixel(self) -> None:
        """Two squares at one depth that meet in the middle of a column of pixels, one of them a body of its own."""
        left = [(-20.0, -20, 1), (5, -20, 1), (5, 40, 1), (-20, 40, 1)]
        points = np.array([*left, *((10 - x, y, z) for x, y, z in left)])
        faces = np.array([(0, 3, 1), (1, 3, 2), (4, 5, 7), (5, 6, 7)])
        for bodies, edge in (((0, 0, 1, 1), np.sqrt((0.25 + 0.04) / 2)), ((0, 0, 0, 0), 0.5)):
            surface = Surface(
                faces=faces,
                radiance=np.repeat(np.float32([[0.25] * 3, [0.04] * 3]), 4, axis=0),
                normals=np.tile(np.array([0, 0, -1], np.float32), (8, 1)),
                sheen=np.zeros(8, np.float32),
                texture_index=np.zeros(4, int),
                body_index=np.array(bodies),
                textures=np.full((1, 8, 8, 2), (NEUTRAL, 0), np.uint8),
            )
            visibility = Visibility.empty(8, 8, 4)
            draw(visibility, points, faces, np.arange(4, dtype=np.int32))
            picture = np.zeros((4, 4, 3), np.uint8)
            depth = paint(picture, visibility, surface, self.overhead, step=0.01)
            expected = 255 * np.array([0.5, 0.5, edge, 0.2])
            np.testing.assert_allclose(picture, np.broadcast_to(expected[:, None], (4, 4, 3)), atol=1)
            np.testing.assert_allclose(depth, 1, atol=1e-6)

    def test_paint_covers_by_share_and_encodes_by_square_root(self) -> None:
        """A vertical edge through the middle of a column of pixels."""
        points = np.array([(-20.0, -20, 1), (5, -20, 1), (5, 40, 1), (-20, 40, 1)])
        faces = np.array([(0, 3, 1), (1, 3, 2)])
        picture = np.full((4, 4, 3), 100, np.uint8)
        surface = Surface(
            faces=faces,
            radiance=np.full((4, 3), 0.25, np.float32),
            normals=np.tile(np.array([0, 0, -1], np.float32), (4, 1)),
            sheen=np.zeros(4, np.float32),
            texture_index=np.zeros(2, int),
            body_index=np.zeros(2, int),
            textures=np.full((1, 8, 8, 2), (NEUTRAL, 0), np.uint8),
        )
        visibility = Visibility.empty(8, 8, 2)
        draw(visibility, points, faces, np.arange(2, dtype=np.int32))
        paint(picture, visibility, surface, self.overhead, step=0.01)
        inside, edge, outside = 255 * 0.5, (100 + 255 * 0.5) / 2, 100
        expected = np.array([inside, inside, edge, outside])
        np.testing.assert_allclose(picture, np.broadcast_to(expected[:, None], (4, 4, 3)), atol=1)


def test_backgrounds_are_all_different_and_rarely_flat() -> None:
    pictures = [procedural_background(np.random.default_rng(seed), 64) for seed in range(40)]
    assert len({picture.tobytes() for picture in pictures}) == 40
    assert np.mean([picture.std() for picture in pictures]) > 15
    assert 60 < np.mean(pictures) < 190


def test_the_lens_keeps_the_picture_recognisable() -> None:
    rng = np.random.default_rng(0)
    lens = Lens(64)
    picture = procedural_background(rng, 64)
    taken = [lens.photograph(picture, rng) for _ in range(20)]
    assert all(photograph.dtype == np.uint8 and photograph.shape == picture.shape for photograph in taken)
    correlations = [np.corrcoef(picture.ravel(), photograph.ravel())[0, 1] for photograph in taken]
    assert min(correlations) > 0.7
    assert np.mean([abs(photograph.astype(int) - picture).mean() for photograph in taken]) > 2


def test_a_streak_is_a_correlation_with_its_kernel() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 50, 3), np.uint8)
    kernel = np.zeros((5, 5), np.float32)
    kernel[[0, 1, 2, 3, 4], [0, 1, 2, 2, 3]] = 0.15, 0.25, 0.3, 0.2, 0.1
    padded = np.pad(picture.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))
    np.testing.assert_allclose(_smear(picture, kernel), np.einsum("rckij,ij->rck", windows, kernel), atol=2)


def test_noise_of_octaves_has_no_mean_and_unit_range() -> None:
    rng = np.random.default_rng(0)
    pictures = np.stack([octave_noise(rng, 32, 16) for _ in range(200)])
    assert abs(pictures.mean()) < 0.05
    assert 0.3 < pictures.std() < 0.7
    assert len({picture.tobytes() for picture in pictures}) == 200
