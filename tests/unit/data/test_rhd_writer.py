"""Rendered hands in RHD's layout: what is written comes back, and reads as RHD does."""

import pickle

import cv2
import numpy as np
import pytest

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.rhd import RhdDataset
from hamr_lightning.data.rhd_writer import write_rhd
from hamr_lightning.data.synthetic import SyntheticDataset
from hamr_lightning.data.verification import verify
from hamr_lightning.hand_model import HandModel

COUNT = 6


@pytest.fixture(scope="module")
def rendered():
    return SyntheticDataset(count=COUNT, seed=4, render_size=320)


@pytest.fixture(scope="module")
def root(tmp_path_factory, rendered):
    root = tmp_path_factory.mktemp("rhd")
    write_rhd(root, "train", rendered, HandModel.load("open"))
    return root


@pytest.mark.parametrize("index", range(COUNT))
def test_what_is_written_comes_back(root, rendered, index):
    read, truth = RhdDataset(root).sample(index), rendered.sample(index, 0)
    is_left = index % 2 == 0
    side, sign = (slice(None, None, -1), -1) if is_left else (slice(None), 1)

    assert read.is_left == is_left
    np.testing.assert_array_equal(read.image, truth.image[:, side])
    np.testing.assert_array_equal(read.mask, 255 * (truth.mask[:, side] > 127))
    np.testing.assert_allclose(read.joints_3d, truth.joints_3d * [sign, 1, 1], atol=1e-6)
    np.testing.assert_allclose(read.joints_2d_px[:, 1], truth.joints_2d_px[:, 1], atol=1e-4)
    x = truth.joints_2d_px[:, 0]
    np.testing.assert_allclose(read.joints_2d_px[:, 0], 320 - x if is_left else x, atol=1e-4)
    projected = read.joints_3d @ read.intrinsics.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], read.joints_2d_px, atol=1e-3)


def test_left_hands_crop_to_the_right_hands_they_were(root, rendered):
    crop = HandCrop(64)
    left = crop(RhdDataset(root).sample(0), np.random.default_rng(0))
    right = crop(rendered.sample(0, 0), np.random.default_rng(0))
    np.testing.assert_allclose(left.image, right.image, atol=1.01 / 255)
    np.testing.assert_allclose(left.joints_2d, right.joints_2d, atol=1e-5)
    np.testing.assert_allclose(left.joints_3d, right.joints_3d, atol=1e-6)


def test_the_annotation_is_plain_and_the_other_hand_is_out_of_the_picture(root):
    content = (root / "training" / "anno_training.pickle").read_bytes()
    annotation = pickle.loads(content)

    assert b"_core" not in content
    assert list(annotation) == list(range(COUNT))
    for index, entry in annotation.items():
        assert {field: (type(values), values.shape) for field, values in entry.items()} == {
            "uv_vis": (np.ndarray, (42, 3)),
            "xyz": (np.ndarray, (42, 3)),
            "K": (np.ndarray, (3, 3)),
        }
        hidden = slice(21, 42) if index % 2 == 0 else slice(0, 21)
        u, _, visible = entry["uv_vis"][hidden].T
        assert ((u < -15) | (u > 335)).all()
        assert not visible.any()
        assert (entry["xyz"][hidden, 2] > 0).all()
        projected = entry["xyz"] @ entry["K"].T
        np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], entry["uv_vis"][:, :2], atol=1e-2)
        assert entry["uv_vis"][:, 2].sum() >= 5


def test_mask_values_are_those_of_the_part_that_a_finger_tip_lies_on(root):
    annotation = pickle.loads((root / "training" / "anno_training.pickle").read_bytes())
    checked = 0
    for index, entry in annotation.items():
        mask = cv2.imread(str(root / "training" / "mask" / f"{index:05d}.png"), cv2.IMREAD_UNCHANGED)
        first, row = (2, 0) if index % 2 == 0 else (18, 21)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, *range(first, first + 16)}
        assert first + 15 in mask
        for finger in range(5):
            tip, _, middle, _ = entry["uv_vis"][row + 1 + 4 * finger : row + 5 + 4 * finger]
            for (u, v, visible), part in ((tip, 0), (middle, 1)):
                at = mask[int(np.clip(v, 0, 319)), int(np.clip(u, 0, 319))]
                if visible and first <= at < first + 15 and (at - first) // 3 == finger:
                    checked += 1
                    assert (at - first) % 3 in (part, part + 1)
    assert checked > 20


def test_depth_is_encoded_as_rhd_has_it(root, rendered):
    for index in range(2):
        bgr = cv2.imread(str(root / "training" / "depth" / f"{index:05d}.png")).astype(float)
        depth = (bgr[..., 2] * 256 + bgr[..., 1]) / 65535 * 5
        truth = rendered.sample(index, 0).depth[:, :: -1 if index == 0 else 1]
        np.testing.assert_allclose(depth, np.minimum(truth, 5), atol=5 / 65535)


def test_it_passes_verification_and_processes_write_the_same(root, rendered, tmp_path):
    report = verify(lambda: RhdDataset(root), "train")
    assert (report.samples, report.published, report.findings) == (COUNT, 41258, ())

    write_rhd(tmp_path, "train", rendered, HandModel.load("open"), workers=2)
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert len(files) == 3 * COUNT + 1
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for name in files:
        assert (root / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_an_interrupted_set_has_no_annotation(tmp_path, rendered):
    def interrupt(results, total):
        yield next(iter(results))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rhd(tmp_path, "val", rendered, HandModel.load("open"), progress=interrupt)
    with pytest.raises(ValueError, match=r"anno_evaluation\.pickle is missing"):
        RhdDataset(tmp_path, "val")
