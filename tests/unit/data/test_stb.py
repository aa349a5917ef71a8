"""STB: known left hands, written in its own layout, come back; what is broken is named."""

import os
import pickle

import cv2
import jaxtyping
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.stb import StbDataset
from hamr_lightning.registry import build
from layouts.stb import SEQUENCES, K, continuous, write_sequence, write_stb
from rendered_hands import known_hands


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HAMR_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("stb")
    return root, write_stb(root)


def in_order(written, cameras, split="val"):
    return [hand for sequence in SEQUENCES[split] for camera in cameras for hand in written[sequence, camera]]


def check(sample, hand, camera):
    assert sample.is_left
    np.testing.assert_array_equal(sample.image, hand.image)
    np.testing.assert_allclose(sample.joints_3d, hand.joints_3d, atol=1e-6)
    np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-3)
    np.testing.assert_allclose(sample.intrinsics, continuous(K[camera]), atol=1e-9)
    assert sample.mask is None
    assert sample.joints_2d_valid is None
    assert sample.joints_3d_valid is None


@pytest.mark.parametrize("camera", ["BB", "SK"])
def test_the_hands_of_a_camera_come_back(stored, camera):
    root, written = stored
    dataset = StbDataset(root, "val", camera=camera)

    for index, hand in enumerate(in_order(written, [camera])):
        check(dataset.sample(index, epoch=3), hand, camera)
    assert len(dataset) == 4


def test_both_cameras_come_sequence_by_sequence(stored):
    root, written = stored
    dataset = build("dataset", "stb", root=root, split="val")

    hands = in_order(written, ["BB", "SK"])
    for index, (hand, camera) in enumerate(zip(hands, ["BB", "BB", "SK", "SK"] * 2, strict=True)):
        check(dataset.sample(index), hand, camera)
    assert len(dataset) == 8


def test_the_training_sequences_are_the_other_backgrounds(tmp_path):
    written = write_stb(tmp_path, "train", frames=1)
    dataset = StbDataset(tmp_path, camera="SK")

    assert len(dataset) == 10
    for index in (0, 3, 9):
        check(dataset.sample(index), in_order(written, ["SK"], "train")[index], "SK")
    with pytest.raises(ValueError, match=r"B1Counting_SK\.mat is missing, the first of 2 missing of 2 label"):
        StbDataset(tmp_path, "val", camera="SK")


def test_the_right_picture_sees_the_hand_a_base_line_further_left(stored):
    root, written = stored
    dataset = StbDataset(root, "val", camera="stereo")
    assert len(dataset) == 8
    left, right = dataset.sample(1), dataset.sample(3)

    assert left.source.endswith("B1Counting/BB_left_1.png")
    assert right.source.endswith("B1Counting/BB_right_1.png")
    check(left, written["B1Counting", "BB"][1], "BB")
    disparity = 822.79041 * 0.120054 / left.joints_3d[:, 2]
    np.testing.assert_allclose(left.joints_2d_px[:, 0] - right.joints_2d_px[:, 0], disparity, atol=1e-3)
    np.testing.assert_allclose(left.joints_2d_px[:, 1], right.joints_2d_px[:, 1], atol=1e-3)
    np.testing.assert_allclose(left.joints_3d - right.joints_3d, np.broadcast_to([0.120054, 0, 0], (21, 3)), atol=1e-9)


@pytest.mark.parametrize("camera", ["BB", "SK"])
def test_the_root_can_be_the_palm_or_from_the_middle_finger(stored, camera):
    root, written = stored
    hand = written["B1Counting", camera][0].joints_3d
    palm = (hand[0] + hand[13]) / 2

    expected = {"palm": palm, "bihand": hand[9] + 2.2 * (palm - hand[9]), "hand3d": hand[0]}
    for root_joint, joint in expected.items():
        sample = StbDataset(root, "val", camera=camera, root_joint=root_joint).sample(0)
        np.testing.assert_allclose(sample.joints_3d[0], joint, atol=1e-6)
        np.testing.assert_allclose(sample.joints_3d[1:], hand[1:], atol=1e-6)
        projected = continuous(K[camera]) @ joint
        np.testing.assert_allclose(sample.joints_2d_px[0], projected[:2] / projected[2], atol=1e-3)


def test_the_crop_of_a_left_hand_is_that_of_its_mirror_image(tmp_path):
    """The mirror image's camera has its principal point mirrored."""
    camera = continuous(K["BB"])
    mirrored_camera = camera.copy()
    mirrored_camera[0, 2] = 640 - camera[0, 2]
    left = known_hands(2, camera, 640, 480, left=True)
    right = known_hands(2, mirrored_camera, 640, 480, left=False)
    for sequence in SEQUENCES["val"]:
        write_sequence(tmp_path, sequence, "BB", left)
    dataset = StbDataset(tmp_path, "val", camera="BB")

    for index, hand in enumerate(right):
        crops = [HandCrop(64)(sample, np.random.default_rng(0)) for sample in (dataset.sample(index), hand)]
        assert crops[0].mirrored.item()
        np.testing.assert_allclose(crops[0].joints_2d, crops[1].joints_2d, atol=1e-5)
        np.testing.assert_allclose(crops[0].joints_3d, crops[1].joints_3d, atol=1e-6)
        assert (crops[0].image - crops[1].image).abs().mean() < 2 / 255


def test_the_second_start_reads_no_labels(stored, monkeypatch):
    root, _ = stored
    first = StbDataset(root, "val")
    monkeypatch.setattr("hamr_lightning.data.stb.loadmat", None)
    second = pickle.loads(pickle.dumps(StbDataset(root, "val")))

    np.testing.assert_array_equal(first.sample(5).joints_3d, second.sample(5).joints_3d)


@pytest.mark.parametrize(("camera", "pictures"), [("both", 2), ("stereo", 2), ("BB", 1), ("SK", 1)])
def test_the_published_counts_are_those_of_the_cameras(stored, camera, pictures):
    dataset = StbDataset(stored[0], "val", camera=camera)

    assert dataset.published == {"train": 15_000 * pictures, "val": 3_000 * pictures}
    assert len(dataset) == 4 * pictures


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"split": "test"}, "split must be one of train, val, got 'test'"),
        ({"camera": "left"}, "camera must be one of both, BB, SK, stereo, got 'left'"),
        ({"root_joint": "wrist"}, "root_joint must be one of hand3d, bihand, palm, got 'wrist'"),
    ],
)
def test_unknown_options_are_refused(stored, option, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse them before
    with pytest.raises(ValueError, match=message):
        StbDataset(stored[0], **option)


@pytest.mark.parametrize("index", [-1, 8])
def test_an_index_beyond_the_end_is_refused(stored, index):
    with pytest.raises(IndexError, match=r"not in \[0, 8\)"):
        StbDataset(stored[0], "val").sample(index)


@pytest.fixture
def root(tmp_path):
    write_stb(tmp_path, frames=1)
    return tmp_path


def rewrite(path, change):
    savemat(path, {"handPara": change(loadmat(path)["handPara"])})


def with_value(value, row=2):
    def change(labels):
        labels[row, 4, 0] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as STB's labels"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read as STB's labels"),
        (lambda path: path.write_bytes(b"no MATLAB file" * 50), "cannot be read as STB's labels"),
        (lambda path: savemat(path, {"hand": np.ones((3, 21, 1))}), "cannot be read as STB's labels.*handPara"),
        (lambda path: savemat(path, {"handPara": "palm"}), "handPara must be numbers of shape"),
        (lambda path: rewrite(path, lambda labels: labels[:, :20]), r"of shape \(3, 21, frames\), got \(3, 20, 1\)"),
        (lambda path: rewrite(path, lambda labels: labels[..., :0]), "handPara must be numbers of shape"),
        (lambda path: rewrite(path, lambda labels: labels.T), r"of shape \(3, 21, frames\), got \(1, 21, 3\)"),
        (lambda path: rewrite(path, with_value(np.nan, row=0)), "of frame 0 must be finite"),
        (lambda path: rewrite(path, with_value(-500.0)), "before the camera"),
        (lambda path: path.unlink(), "is missing, the first of 1 missing of 4 label files"),
    ],
)
def test_broken_labels_are_named(root, damage, message):
    path = root / "labels" / "B1Random_SK.mat"
    damage(path)

    with pytest.raises(ValueError, match=rf"(?s)B1Random_SK\.mat.*{message}"):
        StbDataset(root, "val")
    assert len(StbDataset(root, "val", camera="BB")) == 2


@pytest.mark.parametrize("frames", [0, 2, 3])
def test_labels_of_another_length_than_the_pictures_are_named(root, frames):
    folder = root / "images" / "B1Random"
    pictures = {frame: folder / f"BB_left_{frame}.png" for frame in range(3)}
    content = pictures[0].read_bytes()
    pictures[0].unlink()
    for frame in range(frames):
        pictures[frame].write_bytes(content)

    with pytest.raises(
        ValueError, match=rf"B1Random_BB\.mat has 1 frames, but .*B1Random has {frames} pictures BB_lef"
    ):
        StbDataset(root, "val")


def test_a_missing_picture_is_named(stored, tmp_path):
    write_stb(tmp_path)
    dataset = StbDataset(tmp_path, "val", camera="SK")
    (tmp_path / "images" / "B1Random" / "SK_color_0.png").unlink()

    with pytest.raises(ValueError, match=r"B1Random/SK_color_0\.png is missing"):
        dataset.sample(2)
    dataset.sample(3)


def test_a_broken_picture_is_named(root):
    path = root / "images" / "B1Counting" / "BB_left_0.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(ValueError, match=r"B1Counting/BB_left_0\.png is broken"):
        StbDataset(root, "val").sample(0)


def test_a_picture_of_another_size_than_the_cameras_is_refused(root):
    path = root / "images" / "B1Counting" / "BB_left_0.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (320, 240)))

    with pytest.raises(ValueError, match=r"BB_left_0\.png must have 640 x 480 pixels, got 320 x 240"):
        StbDataset(root, "val").sample(0)


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is no folder"):
        StbDataset(tmp_path / "nowhere")


@pytest.mark.skipif("HAMR_STB_ROOT" not in os.environ, reason="needs STB, its folder named by HAMR_STB_ROOT")
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_published_data_is_read(split):
    dataset = StbDataset(os.environ["HAMR_STB_ROOT"], split)

    assert len(dataset) == dataset.published[split]
    for index in range(0, len(dataset), 1000):
        assert ((dataset.sample(index).joints_2d_px > -20) & (dataset.sample(index).joints_2d_px < (660, 500))).all()
