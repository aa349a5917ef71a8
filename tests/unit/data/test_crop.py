"""The crop: pixels, key points and 3D must move together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import map_coordinates

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandSample
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.projection import fit_camera, project
from hamr_lightning.rasterizer import rasterize

GEOMETRY = replace(Augmentation.none(), scale=(0.9, 1.2), rotation=60.0)
MIRROR = np.diag([-1.0, 1.0, 1.0])


def skew(vector):
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def sample_with_box(left, top, width, height, **fields):
    generator = np.random.default_rng(0)
    joints = generator.uniform([left, top], [left + width, top + height], (21, 2))
    joints[:2] = [left, top], [left + width, top + height]
    defaults = {
        "image": generator.integers(0, 256, (96, 128, 3), dtype=np.uint8),
        "source": "a test",
        "is_left": False,
        "joints_2d_px": joints,
    }
    return HandSample(**(defaults | fields))


def crop(sample, size=32, margin=1.0, augmentation=None, seed=0):
    hand_crop = HandCrop(size, margin, augmentation or Augmentation.none())
    return hand_crop(sample, np.random.default_rng(seed))


def pixels(batch):
    return batch.image[0].permute(1, 2, 0).numpy() * 255


def to_source_px(batch, points):
    matrix = batch.crop_to_image[0].numpy().astype(np.float64)
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_a_crop_on_pixel_borders_is_a_slice():
    sample = sample_with_box(40, 20, 32, 30)

    np.testing.assert_array_equal(pixels(crop(sample)), sample.image[19:51, 40:72])


def test_a_left_hand_is_the_slice_mirrored():
    sample = sample_with_box(40, 20, 32, 30, is_left=True)

    np.testing.assert_array_equal(pixels(crop(sample)), sample.image[19:51, 40:72][:, ::-1])


@pytest.mark.parametrize("factor", [2, 3])
def test_shrinking_by_a_whole_factor_takes_means(factor):
    sample = sample_with_box(16, 0, 96, 96)
    size = 96 // factor
    means = sample.image[:, 16:112].reshape(size, factor, size, factor, 3).mean(axis=(1, 3))

    np.testing.assert_allclose(pixels(crop(sample, size)), means, atol=0.51)


def test_outside_the_source_is_black():
    sample = sample_with_box(-16, 20, 32, 32)
    batch = crop(sample)

    assert pixels(batch)[:, :16].max() == 0
    np.testing.assert_array_equal(pixels(batch)[:, 16:], sample.image[20:52, :16])


def test_a_turned_crop_samples_bilinearly():
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 0] = np.arange(128)[None] * 2
    image[..., 1] = np.arange(96)[:, None] * 2
    image[30:60:2, 40:70] = 255
    sample = sample_with_box(48, 36, 20, 20, image=image)
    batch = crop(sample, 64, augmentation=GEOMETRY)

    centres = (2 * np.arange(64) + 1) / 64 - 1
    x_px, y_px = to_source_px(batch, np.stack(np.meshgrid(centres, centres), axis=-1)).transpose(2, 0, 1) - 0.5
    expected = np.stack([map_coordinates(image[..., c].astype(float), (y_px, x_px), order=1) for c in range(3)], -1)
    np.testing.assert_allclose(pixels(batch), expected, atol=0.51)


@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("size", [24, 200])
def test_a_spot_in_the_image_stays_under_its_joint(is_left, size):
    sample = sample_with_box(30.3, 20.7, 60, 50, is_left=is_left)
    spot = sample.joints_2d_px[2]
    y, x = np.mgrid[:96, :128] + 0.5
    bell = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 18)
    mask = np.uint8(np.rint(255 * bell))
    batch = crop(replace(sample, mask=mask), size, 1.5, GEOMETRY, seed=3)

    weights = batch.mask[0].double().numpy()
    centres = (2 * np.arange(size) + 1) / size - 1
    centroid = np.array([(weights.sum(axis=0) * centres).sum(), (weights.sum(axis=1) * centres).sum()]) / weights.sum()
    np.testing.assert_allclose(batch.joints_2d[0, 2], centroid, atol=0.02 * 2 / 24)


@pytest.mark.parametrize("is_left", [False, True])
def test_crop_to_image_takes_unmirrored_joints_back(is_left):
    sample = sample_with_box(30, 20, 60, 50, is_left=is_left)
    batch = crop(sample, augmentation=GEOMETRY)

    joints = batch.joints_2d[0].double().numpy() * ([-1, 1] if is_left else [1, 1])
    np.testing.assert_allclose(to_source_px(batch, joints), sample.joints_2d_px, atol=1e-4)
    assert batch.mirrored.tolist() == [is_left]


@pytest.mark.parametrize("seed", range(5))
def test_the_joints_fill_the_crop_whatever_the_rotation(seed):
    only_turned = replace(GEOMETRY, scale=(1.0, 1.0))
    joints = crop(sample_with_box(10, 20, 80, 20), 32, 1.6, only_turned, seed).joints_2d[0]
    extent = joints.amax(0) - joints.amin(0)

    assert extent.max().item() == pytest.approx(2 / 1.6, abs=1e-5)
    np.testing.assert_allclose(joints.amax(0) + joints.amin(0), 0, atol=1e-5)


def test_scale_makes_the_hand_larger():
    sample = sample_with_box(10, 20, 80, 20)
    larger = replace(Augmentation.none(), scale=(1.2, 1.2))

    np.testing.assert_allclose(
        crop(sample, augmentation=larger).joints_2d, 1.2 * crop(sample).joints_2d, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("is_left", [False, True])
def test_pose_turns_with_the_points(is_left):
    """A hand model's points R(orient) rest must come out as R(orient') rest, rest being the right hand's."""
    generator = np.random.default_rng(1)
    rest, orient, pose = generator.normal(size=(30, 3)), generator.normal(size=3), generator.normal(size=45)
    own_rest = rest @ MIRROR if is_left else rest
    root = np.array([0.1, -0.2, 0.9])
    sample = sample_with_box(
        30, 20, 60, 50, is_left=is_left, global_orient=orient, hand_pose=pose, betas=np.arange(10.0),
        joints_3d=own_rest[:21] @ expm(skew(orient)).T - own_rest[0] @ expm(skew(orient)).T + root,
        vertices=own_rest @ expm(skew(orient)).T - own_rest[0] @ expm(skew(orient)).T + root,
    )  # fmt: skip
    batch = crop(sample, augmentation=GEOMETRY)

    turned = (rest - rest[0]) @ expm(skew(batch.global_orient[0].double().numpy())).T
    np.testing.assert_allclose(batch.vertices[0], turned, atol=1e-5)
    np.testing.assert_allclose(batch.joints_3d[0], turned[:21], atol=1e-5)
    for before, after in zip(pose.reshape(15, 3), batch.hand_pose[0].double().numpy().reshape(15, 3), strict=True):
        expected = MIRROR @ expm(skew(before)) @ MIRROR if is_left else expm(skew(before))
        np.testing.assert_allclose(expm(skew(after)), expected, atol=1e-5)
    np.testing.assert_array_equal(batch.betas[0], np.arange(10.0))


def test_what_is_not_annotated_is_there_but_not_valid():
    batch = crop(sample_with_box(30, 20, 60, 50))

    for name in ("joints_3d", "mask", "vertices", "global_orient", "hand_pose", "betas"):
        assert not batch.has(name).any()
        assert not getattr(batch, name).any()
    assert batch.has("joints_2d").all()
    assert batch.vertices.shape == (1, 778, 3)
    assert batch.sources == ("a test",)


def test_without_the_root_no_3d_joint_is_valid():
    valid = np.ones(21, bool)
    valid[0] = False
    points = np.ones((21, 3))
    batch = crop(sample_with_box(30, 20, 60, 50, joints_3d=points, joints_3d_valid=valid, vertices=points))

    assert not batch.has("joints_3d").any()
    assert not batch.has("vertices").any()


def test_the_box_is_of_the_valid_joints_only():
    sample = sample_with_box(40, 20, 32, 32)
    sample.joints_2d_px[5] = [-1e6, 1e6]
    valid = np.arange(21) != 5
    batch = crop(replace(sample, joints_2d_valid=valid))

    np.testing.assert_array_equal(pixels(batch), sample.image[20:52, 40:72])
    assert batch.joints_2d_valid[0].tolist() == valid.tolist()


@pytest.mark.parametrize("valid_count", [0, 1])
def test_a_hand_without_extent_is_refused(valid_count):
    sample = sample_with_box(40, 20, 32, 32, joints_2d_valid=np.arange(21) < valid_count)

    with pytest.raises(ValueError, match=r"a test: .* span less than 1 pixel"):
        crop(sample)


@pytest.mark.parametrize(("arguments", "message"), [((4, 1.5), "image_size"), ((64, 0.9), "margin")])
def test_bounds(arguments, message):
    with pytest.raises(ValueError, match=message):
        HandCrop(*arguments)


@pytest.fixture(scope="module")
def decoder():
    return ManoDecoder("open", pose_components=None, flat_hand_mean=True)


def silhouette(points_px, faces, height, width):
    """Coverage, from 4 x 4 samples a pixel."""
    fragments = rasterize(points_px * [4, 4, 1], faces, 4 * height, 4 * width)
    return np.float32(fragments.face_index >= 0).reshape(height, 4, width, 4).mean(axis=(1, 3))


def photographed_hand(decoder, seed, is_left):
    """A hand before so long a lens that its picture is weak perspective to a tenth of a pixel."""
    generator = np.random.default_rng(seed)
    orient, pose, betas = generator.normal(size=3), 0.3 * generator.normal(size=(15, 3)), generator.normal(size=10)
    mesh = decoder(*(torch.from_numpy(x.reshape(1, -1)).float() for x in (orient, pose, betas)))
    mirror, mirror_rotation = (MIRROR, [1, -1, -1]) if is_left else (np.eye(3), [1, 1, 1])
    vertices, joints = (x[0].double().numpy() @ mirror + [0.3, -0.2, 500] for x in (mesh.vertices, mesh.joints))
    K = np.array([[600000.0, 0, -100], [0, 600000, 500], [0, 0, 1]])
    vertices_px, joints_px = (points @ K.T / points[:, 2:] for points in (vertices, joints))
    mask = np.uint8(np.rint(255 * silhouette(vertices_px, decoder.faces.numpy(), 520, 520)))
    return HandSample(
        np.repeat(mask[..., None], 3, axis=2), "a rendered hand", is_left, joints_px[:, :2],
        joints_3d=joints, vertices=vertices, mask=mask, global_orient=orient * mirror_rotation,
        hand_pose=(pose * mirror_rotation).reshape(45), betas=betas, intrinsics=K,
    )  # fmt: skip


@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_what_was_augmented_renders_to_the_augmented_mask(decoder, seed, is_left):
    """The transformed vertices, drawn by the camera of the transformed joints, must cover the transformed mask.

    So must the hand model's vertices under the transformed orientation, pose and shape, as a right hand.
    """
    sample = photographed_hand(decoder, seed, is_left)
    batch = crop(sample, 160, 1.6, GEOMETRY, seed)
    camera = fit_camera(batch.joints_3d, batch.joints_2d)
    mesh = decoder(batch.global_orient, batch.hand_pose, batch.betas)

    np.testing.assert_allclose(project(batch.joints_3d, camera), batch.joints_2d, atol=0.1 * 2 / 160)
    np.testing.assert_allclose(mesh.vertices - mesh.joints[:, :1], batch.vertices, atol=2e-5)
    np.testing.assert_allclose(mesh.joints - mesh.joints[:, :1], batch.joints_3d, atol=2e-5)
    points = (project(batch.vertices, camera)[0].double().numpy() + 1) * 80
    points_px = np.column_stack([points, np.ones(778)])
    rendered = silhouette(points_px, decoder.faces.numpy(), 160, 160)
    difference = np.abs(rendered - batch.mask[0].numpy())
    assert difference.sum() < 0.015 * rendered.sum()
    np.testing.assert_array_equal(batch.image[0, 0], batch.mask[0])


def test_a_wrong_key_point_costs_no_memory():
    assert crop(sample_with_box(0, 0, 1e6, 10)).image.shape == (1, 3, 32, 32)


def test_a_root_alone_is_not_3d_annotation_but_known_in_the_camera():
    joints = np.full((21, 3), 0.5)
    only_root = np.arange(21) == 0
    batch = crop(sample_with_box(40, 20, 32, 30, joints_3d=joints, joints_3d_valid=only_root))

    assert not batch.has("joints_3d").item()
    assert batch.joints_camera_valid[0].tolist() == only_root.tolist()
    torch.testing.assert_close(batch.joints_camera[0, 0], torch.full((3,), 0.5))


def test_joints_without_a_root_are_known_in_the_camera_alone():
    joints = np.random.default_rng(1).uniform(0.4, 0.6, (21, 3))
    tips = np.isin(np.arange(21), [4, 8, 12])
    batch = crop(sample_with_box(40, 20, 32, 30, joints_3d=joints, joints_3d_valid=tips))

    assert not batch.has("joints_3d").item()
    np.testing.assert_allclose(batch.joints_camera[0, tips], joints[tips], atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_box_gives_the_crop_s_middle_and_side_however_it_is_turned(seed):
    box = np.array([30.0, 20.0, 70.0, 50.0])
    batch = crop(sample_with_box(0, 0, 9, 9, box_px=box), margin=1.5, augmentation=GEOMETRY, seed=seed)
    generator = np.random.default_rng(seed)
    scale, _ = GEOMETRY.draw_geometry(generator)
    corners = to_source_px(batch, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))

    np.testing.assert_allclose(corners[0], [50, 35], atol=1e-4)
    for edge in corners[1:]:
        assert np.linalg.norm(edge - corners[0]) == pytest.approx(1.5 / scale * 40 / 2, rel=1e-5)
