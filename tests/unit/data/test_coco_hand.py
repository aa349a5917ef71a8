"""COCO-style sets: known hands come back, customary files are read, and a wrong annotation is named."""

import copy

import cv2
import numpy as np
import pytest

from hamr_lightning.data.coco_hand import CocoHandDataset
from hamr_lightning.data.crop import HandCrop
from layouts.coco_hand import coco_file, write_coco
from rendered_hands import known_hands

K = np.array([[300.0, 0, 110], [0, 310, 95], [0, 0, 1]])
MISSING = object()


@pytest.fixture(scope="module")
def hands():
    return known_hands(1, K, 220, 190) + known_hands(1, K, 220, 190, left=True)


@pytest.fixture
def content(hands):
    return copy.deepcopy(coco_file(hands))


def crop(sample):
    return HandCrop(64)(sample, np.random.default_rng(0))


def test_known_hands_come_back(tmp_path, hands):
    dataset = CocoHandDataset(**write_coco(tmp_path, hands))

    assert len(dataset) == 2
    for index, hand in enumerate(hands):
        sample = dataset.sample(index, epoch=3)
        assert sample.is_left == hand.is_left
        assert sample.source == f"{tmp_path}/pictures/{index}.png, annotation {1000 + index} of hands.json"
        np.testing.assert_array_equal(sample.image, hand.image)
        np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-4)
        np.testing.assert_allclose(sample.joints_3d, hand.joints_3d, atol=1e-6)
        np.testing.assert_allclose(sample.intrinsics, K, atol=1e-4)
        assert sample.joints_2d_valid.all()
        assert sample.joints_3d_valid.all()
        assert sample.box_px is None
        crop(sample)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_key_points_and_camera_move_together_by_the_offset(tmp_path, hands, offset):
    arguments = write_coco(tmp_path, hands, coco_file(hands, offset))
    sample = CocoHandDataset(**arguments, pixel_offset=offset).sample(0)

    np.testing.assert_allclose(sample.joints_2d_px, hands[0].joints_2d_px, atol=1e-4)
    np.testing.assert_allclose(sample.intrinsics, K, atol=1e-4)


def test_key_points_that_are_not_annotated(tmp_path, hands, content):
    for annotation in content["annotations"]:
        annotation["keypoints"][: 3 * 3] = [0, 0, 0] * 3
        annotation["keypoints"][-1] = 1
    del content["annotations"][1]["bbox"]
    dataset = CocoHandDataset(**write_coco(tmp_path, hands, content))

    boxed, unboxed = dataset.sample(0), dataset.sample(1)
    assert boxed.joints_2d_valid.tolist() == unboxed.joints_2d_valid.tolist() == [False] * 3 + [True] * 18
    np.testing.assert_allclose(boxed.joints_2d_px[3:], hands[0].joints_2d_px[3:], atol=1e-4)
    points = hands[0].joints_2d_px - 0.5
    np.testing.assert_allclose(boxed.box_px, [*points.min(axis=0), *points.max(axis=0)], atol=1e-4)
    assert unboxed.box_px is None
    for sample in (boxed, unboxed):
        assert crop(sample).joints_2d_valid.sum() == 18


def test_joints_that_are_not_annotated_in_3d(tmp_path, hands, content):
    content["annotations"][0]["joint_valid"] = [0, 1] + [1] * 19
    content["annotations"][0]["joint_cam"][0] = [0, 0, 0]
    del content["annotations"][1]["joint_cam"], content["images"][1]["cam_param"]
    dataset = CocoHandDataset(**write_coco(tmp_path, hands, content))

    some, none = dataset.sample(0), dataset.sample(1)
    assert some.joints_3d_valid.tolist() == [False] + [True] * 20
    np.testing.assert_allclose(some.joints_3d[1:], hands[0].joints_3d[1:], atol=1e-6)
    assert (none.joints_3d, none.joints_3d_valid, none.intrinsics) == (None, None, None)
    assert crop(some).joints_camera_valid.sum() == 20
    assert crop(none).joints_camera_valid.sum() == 0


def test_the_least_that_a_file_can_hold_and_what_is_left_out(tmp_path, hands, content):
    points = np.reshape(content["annotations"][0]["keypoints"], (21, 3)).tolist()
    least = {"image_id": "a", "keypoints": points}
    content = {
        "images": [{"id": "a", "file_name": "0.png"}],
        "annotations": [{**least, "iscrowd": 1}, {"image_id": "a", "keypoints": [0] * 63}, least],
    }
    (sample,) = (CocoHandDataset(**write_coco(tmp_path, hands, content)).sample(index) for index in range(1))

    np.testing.assert_allclose(sample.joints_2d_px, hands[0].joints_2d_px, atol=1e-4)
    assert not sample.is_left
    assert sample.source.endswith("annotation at place 2 of hands.json")


def test_two_hands_of_a_person_as_coco_wholebody_has_them(tmp_path, hands, content):
    left, right = content["annotations"][1], content["annotations"][0]
    person = {
        "id": 5,
        "image_id": 100,
        "keypoints": [0] * 51,
        "bbox": [0, 0, 9, 9],
        "lefthand_kpts": left["keypoints"],
        "lefthand_box": left["bbox"],
        "lefthand_valid": True,
        "righthand_kpts": right["keypoints"],
        "righthand_box": right["bbox"],
        "righthand_valid": True,
    }
    content["annotations"] = [person, {**person, "id": 6, "lefthand_valid": False}]
    dataset = CocoHandDataset(**write_coco(tmp_path, hands, content))

    samples = [dataset.sample(index) for index in range(len(dataset))]
    assert [sample.is_left for sample in samples] == [True, False, False]
    for sample, hand in zip(samples, (hands[1], hands[0], hands[0]), strict=True):
        np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-4)


def test_grey_pictures_are_read(tmp_path, hands):
    arguments = write_coco(tmp_path, hands)
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), hands[0].image[..., 0])
    image = CocoHandDataset(**arguments).sample(0).image
    np.testing.assert_array_equal(image, np.stack([hands[0].image[..., 0]] * 3, axis=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1.0] * 60}, "keypoints must be 63 numbers, got"),
        ({"keypoints": [[1, 2]] * 21}, "keypoints must be 63 numbers"),
        ({"keypoints": [[1, 2, 3], [1]]}, "keypoints must be 63 numbers"),
        ({"keypoints": ["1"] * 63}, "keypoints must be 63 numbers"),
        ({"keypoints": [None] * 63}, "keypoints must be 63 numbers"),
        ({"keypoints": [1e300] * 63}, "keypoints must be numbers in"),
        ({"keypoints": [10**30] * 63}, "keypoints must be"),
        ({"keypoints": 7}, "keypoints must be 63 numbers"),
        ({"keypoints": MISSING}, "keypoints is missing"),
        ({"image_id": 9}, "image_id 9 is not in images"),
        ({"image_id": [9]}, r"image_id \[9\] is not in images"),
        ({"image_id": MISSING}, "image_id is missing"),
        ({"bbox": [1, 2, 3]}, "bbox must be 4 numbers"),
        ({"joint_cam": [[1, 2, 3]]}, "joint_cam must be 63 numbers"),
        ({"joint_valid": [1] * 42}, "joint_valid must be 21 numbers"),
        ({"hand_type": "interacting"}, 'hand_type must be "left" or "right", got'),
        ({"lefthand_kpts": [0] * 63}, "lefthand_valid is missing"),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path, hands, content, change, message):
    annotation = content["annotations"][1]
    annotation.update(change)
    content["annotations"][1] = {key: value for key, value in annotation.items() if value is not MISSING}
    arguments = write_coco(tmp_path, hands, content)
    with pytest.raises(ValueError, match=rf"hands\.json: annotation 1001: {message}"):
        CocoHandDataset(**arguments)


@pytest.mark.parametrize(
    "name",
    ["../0.png", "a/../../0.png", "/etc/passwd", "..\\0.png", "C:\\0.png", "C:0.png", "\\\\host\\0.png", 3, None],
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path, hands, content, name):
    content["images"][0]["file_name"] = name
    arguments = write_coco(tmp_path, hands, content)
    with pytest.raises(ValueError, match=r"annotation 1000: file_name must be a path inside the folder of images, got"):
        CocoHandDataset(**arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "images is missing"),
        ({"images": []}, "annotations is missing"),
        ({"images": {}, "annotations": []}, "images must be a list, got dict"),
        ({"images": [], "annotations": []}, "no annotation has a hand"),
        ({"images": [3], "annotations": []}, "id is missing"),
        ({"images": [{"id": [3]}], "annotations": []}, r"an image's id must be a number or a text, got \[3\]"),
        ({"images": [{"id": 3}, {"id": 3}], "annotations": []}, "two images have the id 3"),
        ({"images": [], "annotations": [3]}, "annotation at place 0: image_id is missing"),
        ({"images": [], "annotations": [{"image_id": float("nan")}]}, "it holds NaN"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    arguments = write_coco(tmp_path, [], content)
    with pytest.raises(ValueError, match=rf"hands\.json.*: {message}"):
        CocoHandDataset(**arguments)


def test_a_wrong_picture_is_named_and_costs_no_other(tmp_path, hands, content):
    content["images"][1]["width"] = 190
    dataset = CocoHandDataset(**write_coco(tmp_path, hands, content))
    (tmp_path / "pictures" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"annotation 1000 of .*hands\.json: .*pictures/0\.png is missing"):
        dataset.sample(0)
    with pytest.raises(
        ValueError, match=r"1\.png, annotation 1001 .*: the picture is 220 x 190 pixels, but .* 190 x 190"
    ):
        dataset.sample(1)


def test_splits_and_their_files(tmp_path, hands):
    arguments = write_coco(tmp_path, hands)
    assert len(CocoHandDataset(tmp_path, "val", val_annotation="hands.json", val_images="pictures")) == 2
    with pytest.raises(ValueError, match="val_annotation must name the JSON file of the split 'val'"):
        CocoHandDataset(**arguments, split="val")
    with pytest.raises(ValueError, match=r"gone\.json is missing"):
        CocoHandDataset(tmp_path, train_annotation="gone.json")
    for index in (-1, 2):
        with pytest.raises(IndexError, match=r"not in \[0, 2\)"):
            CocoHandDataset(**arguments).sample(index)
