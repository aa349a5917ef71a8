"""Dexter+Object: the tips of known left hands, written in its own layout, come back; what is broken is named."""

import pickle

import cv2
import jaxtyping
import numpy as np
import pytest

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.dexter_object import DexterObjectDataset
from hamr_lightning.registry import build
from layouts.dexter_object import CONTINUOUS_K, SEQUENCES, TIPS, write_dexter_object
from rendered_hands import known_hands

ALL_OF_THREE = [(3, finger) for finger in range(5)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("dexter")
    return root, write_dexter_object(root)


def tips_valid(*missing):
    valid = np.zeros(21, dtype=bool)
    valid[[tip for finger, tip in enumerate(TIPS) if finger not in missing]] = True
    return valid


def check(sample, hand, valid):
    assert sample.is_left
    np.testing.assert_array_equal(sample.image, hand.image)
    for given in (sample.joints_3d_valid, sample.joints_2d_valid):
        np.testing.assert_array_equal(given, valid)
    np.testing.assert_allclose(sample.joints_3d[valid], hand.joints_3d[valid], atol=1e-6)
    np.testing.assert_allclose(sample.joints_2d_px[valid], hand.joints_2d_px[valid], atol=1e-3)
    np.testing.assert_allclose(sample.intrinsics, CONTINUOUS_K, atol=1e-9)
    assert not sample.joints_3d[~valid].any()
    assert not sample.joints_2d_px[~valid].any()
    assert sample.mask is None


def test_the_tips_come_back_sequence_by_sequence(stored):
    root, hands = stored
    dataset = pickle.loads(pickle.dumps(build("dataset", "dexter_object", root=root, split="val")))

    assert (len(dataset), dataset.left_out) == (12, 0)
    for index, hand in enumerate(hands):
        check(dataset.sample(index, epoch=3), hand, tips_valid())
    assert dataset.sample(3).source.endswith("data/Grasp2/color/image_00001.png")


def test_tips_without_a_depth_are_not_valid_and_frames_without_tips_are_left_out(tmp_path):
    hands = write_dexter_object(tmp_path, missing=[(0, 1), (1, 0), (1, 4), *ALL_OF_THREE])
    dataset = DexterObjectDataset(tmp_path)

    assert (len(dataset), dataset.left_out) == (11, 1)
    check(dataset.sample(0), hands[0], tips_valid(1))
    check(dataset.sample(1), hands[1], tips_valid(0, 4))
    check(dataset.sample(2), hands[2], tips_valid())
    check(dataset.sample(3), hands[4], tips_valid())


def test_a_tip_that_is_not_before_the_camera_is_not_valid(tmp_path):
    hands = write_dexter_object(tmp_path, frames=1)
    path = tmp_path / "data" / "Grasp1" / "annotations" / "Grasp13D.txt"
    path.write_text("0, 0, 0;" + path.read_text().split(";", 1)[1])

    check(DexterObjectDataset(tmp_path).sample(0), hands[0], tips_valid(0))


def test_corrected_labels_are_read_from_beside_the_published_ones(tmp_path):
    hands = write_dexter_object(tmp_path, frames=1)
    write_dexter_object(tmp_path, frames=1, missing=[(0, 2)], labels="my_{}3D.txt")

    check(DexterObjectDataset(tmp_path).sample(0), hands[0], tips_valid())
    check(DexterObjectDataset(tmp_path, labels="corrected").sample(0), hands[0], tips_valid(2))


def test_the_box_is_twenty_centimetres_around_the_median_tip(stored):
    root, hands = stored
    for index, hand in enumerate(hands):
        box = DexterObjectDataset(root).sample(index).box_px.reshape(2, 2)
        side = 600.67456 * 0.2 / sorted(hand.joints_3d[TIPS, 2])[2]
        np.testing.assert_allclose(box[1] - box[0], side, rtol=1e-6)
        np.testing.assert_allclose(box.mean(axis=0), np.sort(hand.joints_2d_px[TIPS], axis=0)[2], atol=1e-3)
        beyond = 1.6 * side / 2 - np.abs(hand.joints_2d_px - box.mean(axis=0))
        assert (beyond > 0).all(), "the crop cuts the hand"


def test_the_crop_of_a_left_hand_is_that_of_its_mirror_image(stored):
    """The mirror image's camera has its principal point mirrored."""
    root, _ = stored
    mirrored_camera = CONTINUOUS_K.copy()
    mirrored_camera[0, 2] = 640 - CONTINUOUS_K[0, 2]
    right = known_hands(1, mirrored_camera, 640, 480, left=False)[0]
    sample = DexterObjectDataset(root).sample(0)
    crop = HandCrop(64)(sample, np.random.default_rng(0))

    assert crop.mirrored.item()
    assert crop.joints_3d_valid.sum() == 0, "there is no root to be relative to"
    np.testing.assert_allclose(crop.joints_camera[0, TIPS], right.joints_3d[TIPS], atol=1e-6)
    half_side = 1.6 * (sample.box_px[2] - sample.box_px[0]) / 2
    centre = np.median(right.joints_2d_px[TIPS], axis=0)
    np.testing.assert_allclose(crop.joints_2d[0, TIPS], (right.joints_2d_px[TIPS] - centre) / half_side, atol=1e-5)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    hands = write_dexter_object(tmp_path, frames=2)
    folder = tmp_path / "data" / "Grasp1" / "color"
    (folder / "image_00000.png").rename(folder / "image_9.png")
    (folder / "image_00001.png").rename(folder / "image_10.png")

    for index in range(2):
        check(DexterObjectDataset(tmp_path).sample(index), hands[index], tips_valid())


def test_a_split_for_training_is_refused(stored, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it before
    with pytest.raises(ValueError, match="split must be val, the set is for evaluation only, got 'train'"):
        DexterObjectDataset(stored[0], "train")
    with pytest.raises(ValueError, match="labels must be one of published, corrected, got 'mine'"):
        DexterObjectDataset(stored[0], labels="mine")


@pytest.mark.parametrize("index", [-1, 12])
def test_an_index_beyond_the_end_is_refused(stored, index):
    with pytest.raises(IndexError, match=r"not in \[0, 12\)"):
        DexterObjectDataset(stored[0]).sample(index)


@pytest.fixture
def root(tmp_path):
    write_dexter_object(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.split("\n", 1)[1], "has 1 lines, but .*Pinch/color has 2 pictures"),
        (lambda text: text + text.splitlines()[0], "has 3 lines, but .*Pinch/color has 2 pictures"),
        (lambda text: "", "is empty"),
        (lambda text: text.replace("\n", "\n\n", 1), r"line 2 must begin with five points 'x, y, z;', got ''"),
        (lambda text: text[: len(text) * 3 // 4], r"line 2 must begin with five points"),
        (lambda text: text.replace(";", " ", 1), r"line 1 must begin with five points"),
        (lambda text: text.replace(",", ";", 1), r"line 1 must begin with five points"),
        (lambda text: "here" + text, r"line 1 must begin with five points .*could not convert string to float: 'here"),
        (lambda text: "nan" + text[text.index(",") :], "line 1 must hold finite numbers"),
        (lambda text: "1e999" + text[text.index(",") :], "line 1 must hold finite numbers"),
    ],
)
def test_broken_labels_are_named(root, damage, message):
    path = root / "data" / "Pinch" / "annotations" / "Pinch3D.txt"
    path.write_text(damage(path.read_text()))

    with pytest.raises(ValueError, match=rf"Pinch3D\.txt.*{message}"):
        DexterObjectDataset(root)


def test_labels_that_are_no_text_are_named(root):
    (root / "data" / "Pinch" / "annotations" / "Pinch3D.txt").write_bytes(bytes(range(256)))

    with pytest.raises(ValueError, match=r"Pinch3D\.txt, line 1 must begin with five points"):
        DexterObjectDataset(root)


def test_points_after_the_tips_are_not_read(root):
    path = root / "data" / "Pinch" / "annotations" / "Pinch3D.txt"
    path.write_text(path.read_text().replace("\n", " 1, 2, 3; 4, 5, 6;\n"))

    assert len(DexterObjectDataset(root)) == 12


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_missing_label_file_is_named(root, sequence):
    (root / "data" / sequence / "annotations" / f"{sequence}3D.txt").unlink()

    with pytest.raises(ValueError, match=rf"{sequence}3D\.txt is missing; root must name"):
        DexterObjectDataset(root)


def test_a_missing_picture_is_named(root):
    dataset = DexterObjectDataset(root)
    (root / "data" / "Grasp1" / "color" / "image_00001.png").unlink()

    with pytest.raises(ValueError, match=r"Grasp1/color/image_00001\.png is missing"):
        dataset.sample(1)
    dataset.sample(2)
    with pytest.raises(ValueError, match=r"Grasp13D\.txt has 2 lines, but .*Grasp1/color has 1 pictures"):
        DexterObjectDataset(root)


def test_a_broken_picture_is_named(root):
    path = root / "data" / "Grasp1" / "color" / "image_00000.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(ValueError, match=r"Grasp1/color/image_00000\.png is broken"):
        DexterObjectDataset(root).sample(0)


def test_a_picture_of_another_size_than_the_cameras_is_refused(root):
    path = root / "data" / "Grasp1" / "color" / "image_00000.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (320, 240)))

    with pytest.raises(ValueError, match=r"image_00000\.png must have 640 x 480 pixels, got 320 x 240"):
        DexterObjectDataset(root).sample(0)
