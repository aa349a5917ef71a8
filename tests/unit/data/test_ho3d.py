"""HO-3D: hands written in its exact layout come back, and whatever is broken in it is named."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.ho3d import Ho3dDataset
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel
from hostile_array import HOSTILE_ARRAY
from layouts.ho3d import (
    FRAMES,
    SEGMENTATIONS,
    joints,
    read_meta,
    segmentation,
    vertices,
    write_ho3d,
    write_meta,
    write_picture,
    write_truth,
)

META = Path("train/ABF10/meta/0000.pkl")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_known_training_hands_come_back(tmp_path, version):
    hands = write_ho3d(tmp_path, version)
    dataset = Ho3dDataset(tmp_path)

    assert len(dataset) == len(hands)
    for index, hand in enumerate(hands):
        sample = dataset.sample(index, epoch=3)
        assert FRAMES["train"][index].split("/")[1] in sample.source
        assert not sample.is_left
        assert sample.joints_2d_valid is sample.joints_3d_valid is sample.box_px is sample.vertices is None
        np.testing.assert_allclose(sample.joints_3d, hand.joints_3d, atol=1e-6)
        np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-3)
        np.testing.assert_allclose(sample.intrinsics, hand.intrinsics, atol=1e-4)
        assert np.abs(sample.image - hand.image.astype(float)).mean() < (3 if version == "v3" else 1e-9)


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_masks_come_back_within_a_pixel_of_the_segmentation(tmp_path, version):
    hands = write_ho3d(tmp_path, version)
    dataset = Ho3dDataset(tmp_path)
    for index, hand in enumerate(hands):
        mask, known = dataset.sample(index).mask, np.uint8(255) * (hand.mask >= 128)
        assert set(np.unique(mask)) == {0, 255}
        assert (cv2.erode(known, np.ones((9, 9))) <= mask).all()
        assert (mask <= cv2.dilate(known, np.ones((9, 9)))).all()


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_pixel_of_the_segmentation_is_four_by_four_of_the_picture(tmp_path, version):
    write_ho3d(tmp_path, version)
    block, known = np.zeros((480, 640), np.uint8), np.zeros((480, 640), bool)
    block[120:160, 200:280] = known[120:160, 200:280] = 255
    path = tmp_path / "train" / "ABF10" / "seg" / f"0000{SEGMENTATIONS[version]}"
    write_picture(path, segmentation(block, version))

    assert (Ho3dDataset(tmp_path).sample(0).mask != np.uint8(255) * known).sum() <= 4  # the corners


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_known_evaluation_hands_come_back(tmp_path, mano, version):
    hands = write_ho3d(tmp_path, version, "val", truth=True)
    dataset = Ho3dDataset(tmp_path, "val", str(mano))
    for index, hand in enumerate(hands):
        sample = dataset.sample(index)
        assert sample.joints_3d_valid is sample.joints_2d_valid is sample.mask is None
        np.testing.assert_allclose(sample.joints_3d, hand.joints_3d, atol=1e-6)
        np.testing.assert_allclose(sample.vertices, hand.vertices, atol=1e-6)
        np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-3)


def test_without_what_was_published_later_an_evaluation_hand_has_its_root_alone(tmp_path, mano):
    hands = write_ho3d(tmp_path, split="val")
    for index, hand in enumerate(hands):
        sample = Ho3dDataset(tmp_path, "val", str(mano)).sample(index)
        assert np.flatnonzero(sample.joints_3d_valid).tolist() == np.flatnonzero(sample.joints_2d_valid).tolist() == [0]
        np.testing.assert_allclose(sample.joints_3d[0], hand.joints_3d[0], atol=1e-6)
        np.testing.assert_allclose(sample.joints_2d_px[0], hand.joints_2d_px[0], atol=1e-3)
        assert np.isfinite(sample.joints_2d_px).all()
        assert sample.vertices is None


@pytest.mark.parametrize("truth", [False, True])
def test_an_evaluation_crop_is_around_the_published_box_whatever_is_annotated(tmp_path, truth):
    hand = write_ho3d(tmp_path, split="val", truth=truth)[0]
    sample = Ho3dDataset(tmp_path, "val").sample(0)
    corners = np.concatenate([hand.joints_2d_px.min(axis=0), hand.joints_2d_px.max(axis=0)])
    batch = HandCrop(size=64)(sample, np.random.default_rng(0))

    np.testing.assert_allclose(sample.box_px, corners, atol=1e-3)
    np.testing.assert_allclose(
        batch.crop_to_image[0, :, 2], [(corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2], atol=1e-3
    )


def test_vertices_may_be_published_without_joints(tmp_path, mano):
    hands = write_ho3d(tmp_path, split="val")
    write_truth(tmp_path, "verts", [vertices(hand).tolist() for hand in hands])
    sample = Ho3dDataset(tmp_path, "val", str(mano)).sample(1)

    np.testing.assert_allclose(sample.vertices, hands[1].vertices, atol=1e-6)
    assert sample.joints_3d_valid.sum() == 1


def test_parameters_of_mano_pose_it_to_the_joints(tmp_path, mano):
    model = HandModel.load(mano)
    write_ho3d(tmp_path)
    sample = Ho3dDataset(tmp_path, hand=model).sample(1)
    decoder = ManoDecoder(model, pose_components=None, flat_hand_mean=True)
    parameters = (sample.global_orient, sample.hand_pose, sample.betas)
    posed = decoder(*(torch.tensor(values[None], dtype=torch.float32) for values in parameters)).joints[0].numpy()

    np.testing.assert_allclose(posed - posed[0], sample.joints_3d - sample.joints_3d[0], atol=2e-6)


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_of_mano_is_not_given_to_another_hand_model(tmp_path, split):
    write_ho3d(tmp_path, split=split, truth=split == "val")
    sample = Ho3dDataset(tmp_path, split).sample(0)

    assert sample.vertices is sample.global_orient is sample.hand_pose is sample.betas is None
    assert sample.joints_3d is not None


@pytest.mark.parametrize(
    ("version", "published"),
    [("v2", {"train": 66_034, "val": 11_524}), ("v3", {"train": 83_325, "val": 20_137})],
)
def test_the_published_counts_are_the_versions(tmp_path, version, published):
    write_ho3d(tmp_path, version)

    assert Ho3dDataset(tmp_path).published == published


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_segmentations_may_lie_in_the_folder_of_their_archive(tmp_path, version):
    write_ho3d(tmp_path, version)
    before = Ho3dDataset(tmp_path).sample(2).mask
    for folder in list((tmp_path / "train").glob("*/seg")):
        target = tmp_path / f"HO3D_{version}_segmentations_rendered" / folder.relative_to(tmp_path)
        target.parent.mkdir(parents=True)
        folder.rename(target)

    np.testing.assert_array_equal(Ho3dDataset(tmp_path).sample(2).mask, before)


def test_without_segmentations_there_is_a_warning(tmp_path):
    write_ho3d(tmp_path)
    for folder in list((tmp_path / "train").glob("*/seg")):
        folder.rename(tmp_path / folder.parent.name)

    with pytest.warns(UserWarning, match=r"HO3D_v3_segmentations_rendered.* is missing: no hand has a mask"):
        dataset = Ho3dDataset(tmp_path)
    assert dataset.sample(0).mask is None


@pytest.mark.parametrize("path", ["rgb/0000.jpg", "seg/0000.png"])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100], lambda content: b"no picture"])
def test_a_broken_picture_is_named(tmp_path, path, damage):
    write_ho3d(tmp_path)
    picture = tmp_path / "train" / "ABF10" / path
    picture.write_bytes(damage(picture.read_bytes()))

    with pytest.raises(ValueError, match=f"ABF10/{path} is broken"):
        Ho3dDataset(tmp_path).sample(0)


@pytest.mark.parametrize("path", ["rgb/0003.jpg", "seg/0003.png", "meta/0003.pkl"])
def test_a_missing_file_is_named(tmp_path, path):
    write_ho3d(tmp_path)
    (tmp_path / "train" / "ABF10" / path).unlink()
    dataset = Ho3dDataset(tmp_path)

    with pytest.raises(ValueError, match=f"ABF10/{path} is missing"):
        dataset.sample(1)
    dataset.sample(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no picture"),
        ("ABF10/0000\nABF10\n", "entry 1 must be <sequence>/<picture>, got 'ABF10'"),
        ("/0000", "entry 0 must be"),
        ("ABF10/7777\n", r"7777\.png .v2. or \.jpg .v3. is missing"),
    ],
)
def test_a_wrong_list_is_named(tmp_path, content, message):
    write_ho3d(tmp_path)
    (tmp_path / "train.txt").write_text(content)

    with pytest.raises(ValueError, match=message):
        Ho3dDataset(tmp_path)


def test_a_missing_list_is_named(tmp_path):
    write_ho3d(tmp_path)

    with pytest.raises(ValueError, match=r"evaluation\.txt is missing; root must name the folder HO3D_v2 or HO3D_v3"):
        Ho3dDataset(tmp_path, "val")


def test_annotation_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "hostile",)

    write_ho3d(tmp_path)
    (tmp_path / META).write_bytes(pickle.dumps({"camMat": Hostile()}))

    with pytest.raises(ValueError, match=r"meta/0000\.pkl cannot be read .* asks for pathlib"):
        Ho3dDataset(tmp_path).sample(0)
    assert not (tmp_path / "hostile").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    hand = write_ho3d(tmp_path)[0]
    (tmp_path / META).write_bytes(pickle.dumps(read_meta(tmp_path / META), protocol=protocol))

    np.testing.assert_allclose(Ho3dDataset(tmp_path).sample(0).joints_3d, hand.joints_3d, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"\x80\x02}q", "cannot be read"), (pickle.dumps([1]), "a dict: it is a list")],
)
def test_a_broken_pickle_is_named(tmp_path, content, message):
    write_ho3d(tmp_path)
    (tmp_path / META).write_bytes(content)

    with pytest.raises(ValueError, match=rf"meta/0000\.pkl .*{message}"):
        Ho3dDataset(tmp_path).sample(0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("handJoints3D", None, "handJoints3D is not annotated"),
        ("camMat", None, "camMat is not annotated"),
        (
            "handJoints3D",
            np.zeros((20, 3)),
            r"handJoints3D must have shape \(21, 3\) and be finite, got shape \(20, 3\)",
        ),
        ("handJoints3D", np.full((21, 3), np.nan), r"handJoints3D must have shape \(21, 3\) and be finite"),
        ("camMat", "K", "camMat cannot be read"),
        ("camMat", HOSTILE_ARRAY, "camMat cannot be read: .* dtype V8"),
        ("camMat", [[1, 2], [3]], "camMat cannot be read"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, field, value, message):
    write_ho3d(tmp_path)
    (tmp_path / META).write_bytes(pickle.dumps(read_meta(tmp_path / META) | {field: value}))

    with pytest.raises(ValueError, match=rf"meta/0000\.pkl: {message}"):
        Ho3dDataset(tmp_path).sample(0)


@pytest.mark.parametrize("kind", [np.float32, np.array, lambda values: tuple(np.float64(value) for value in values)])
def test_a_box_may_be_an_array_or_numbers(tmp_path, kind):
    write_ho3d(tmp_path, split="val")
    path = tmp_path / "evaluation" / "SM1" / "meta" / "0000.pkl"
    write_meta(path, read_meta(path) | {"handBoundingBox": kind([10.0, 20.0, 110.0, 90.0])})

    np.testing.assert_array_equal(Ho3dDataset(tmp_path, "val").sample(0).box_px, [10.5, 20.5, 110.5, 90.5])


@pytest.mark.parametrize("field", ["xyz", "verts"])
def test_a_published_evaluation_of_another_length_is_named(tmp_path, field):
    hands = write_ho3d(tmp_path, split="val")
    write_truth(tmp_path, field, [{"xyz": joints, "verts": vertices}[field](hand).tolist() for hand in hands[:1]])

    with pytest.raises(
        ValueError, match=rf"evaluation_{field}\.json has 1 entries where evaluation\.txt .* 2 pictures"
    ):
        Ho3dDataset(tmp_path, "val")


def test_a_published_evaluation_with_nan_is_named(tmp_path):
    write_ho3d(tmp_path, split="val")
    (tmp_path / "evaluation_xyz.json").write_text("[[[NaN, 0, 0]]]")

    with pytest.raises(ValueError, match=r"evaluation_xyz\.json .*it holds NaN"):
        Ho3dDataset(tmp_path, "val")


def test_an_index_beyond_the_end_is_refused(tmp_path):
    write_ho3d(tmp_path)
    for index in (3, -1):
        with pytest.raises(IndexError, match=r"not in \[0, 3\)"):
            Ho3dDataset(tmp_path).sample(index)


def test_the_thing_is_not_in_the_mask(tmp_path):
    write_ho3d(tmp_path)

    assert not cv2.countNonZero(Ho3dDataset(tmp_path).sample(0).mask[:20, :36])


@pytest.mark.parametrize(("version", "suffix"), [("v2", "png"), ("v3", "jpg")])
def test_a_first_picture_that_is_missing_is_named_when_it_is_read(tmp_path, version, suffix):
    write_ho3d(tmp_path, version)
    sequence, frame = FRAMES["train"][0].split("/")
    (tmp_path / "train" / sequence / "rgb" / f"{frame}.{suffix}").unlink()
    dataset = Ho3dDataset(tmp_path)

    assert dataset.sample(1).image.shape == (480, 640, 3)
    with pytest.raises(ValueError, match=rf"{frame}\.{suffix} is missing"):
        dataset.sample(0)
