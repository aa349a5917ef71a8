"""RHD: hands written in its exact layout come back, and the real piece of it fits its camera."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from hamr_lightning.data.rhd import RhdDataset
from hamr_lightning.registry import build
from hostile_array import HOSTILE_ARRAY

REAL = os.environ.get("HAMR_RHD_ROOT")
FOLDERS = {"train": "training", "val": "evaluation"}
K = np.array([[300.0, 0, 160], [0, 300, 160], [0, 0, 1]])


def hand(x):
    """21 joints, base to tip, of a flat hand before the camera."""
    fingers = [[[x + 0.02 * (f - 2), 0.03 * part - 0.05, 0.6] for part in range(1, 5)] for f in range(5)]
    return np.array([[x, -0.05, 0.6], *np.reshape(fingers, (20, 3))])


def tip_to_palm(joints):
    return np.concatenate([joints[:1], *(joints[1 + 4 * f : 5 + 4 * f][::-1] for f in range(5))])


def write_rhd(root, split="train", pixels_left=(900, 100), hidden_left=(5, 21), with_mask=True):
    """Write one picture for each pair: so many mask pixels of the left hand, so many of its key points hidden.

    The right hand always has 400 pixels and 10 key points hidden.
    """
    folder = root / FOLDERS[split]
    annotation = {}
    for number, (pixels, hidden) in enumerate(zip(pixels_left, hidden_left, strict=True)):
        xyz = np.concatenate([tip_to_palm(hand(-0.1)), tip_to_palm(hand(0.12))])
        projected = xyz @ K.T
        visible = np.concatenate([np.arange(21) >= hidden, np.arange(21) >= 10])
        uv_vis = np.column_stack([projected[:, :2] / projected[:, 2:], visible])
        annotation[number] = {"uv_vis": uv_vis, "xyz": xyz, "K": K}

        mask = np.ones((320, 320), np.uint8)
        mask[:20].flat[:pixels] = np.resize(np.arange(2, 18), pixels)
        mask[100:120].flat[:400] = np.resize(np.arange(18, 34), 400)
        image = np.full((320, 320, 3), (10, 20, 200), np.uint8)
        for name, picture in {"color": image, **({"mask": mask} if with_mask else {})}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number:05d}.png"), picture)
    (folder / f"anno_{FOLDERS[split]}.pickle").write_bytes(pickle.dumps(annotation, protocol=2))
    return root


@pytest.mark.parametrize("split", FOLDERS)
def test_the_hand_with_more_mask_pixels_comes_back(tmp_path, split):
    write_rhd(tmp_path, split)
    left, right = (RhdDataset(tmp_path, split).sample(index, epoch=3) for index in range(2))

    assert (left.is_left, right.is_left) == (True, False)
    np.testing.assert_allclose(left.joints_3d, hand(-0.1), atol=1e-6)
    np.testing.assert_allclose(right.joints_3d, hand(0.12), atol=1e-6)
    assert (np.count_nonzero(left.mask), np.count_nonzero(right.mask)) == (900, 400)
    assert set(np.unique(left.mask)) == {0, 255}
    assert left.image[0, 0].tolist() == [200, 20, 10]
    for sample in (left, right):
        projected = sample.joints_3d @ sample.intrinsics.T
        np.testing.assert_allclose(sample.joints_2d_px, projected[:, :2] / projected[:, 2:], atol=1e-4)
        assert sample.joints_2d_valid is None


def test_without_masks_the_hand_with_more_visible_key_points_comes_back(tmp_path):
    write_rhd(tmp_path, with_mask=False)
    with pytest.warns(UserWarning, match=r"training/mask is missing: no hand has a mask"):
        dataset = build("dataset", "rhd", root=tmp_path, split="train")
    samples = [dataset.sample(index, epoch=0) for index in range(2)]

    assert [sample.is_left for sample in samples] == [True, False]
    assert samples[0].mask is None


def test_an_index_beyond_the_end_is_refused(tmp_path):
    dataset = RhdDataset(write_rhd(tmp_path))

    assert len(dataset) == 2
    for index in (2, -1):
        with pytest.raises(IndexError, match=r"not in \[0, 2\)"):
            dataset.sample(index, epoch=0)


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"anno_evaluation\.pickle is missing; root must name .*RHD_published_v2"):
        RhdDataset(write_rhd(tmp_path), "val")
    (tmp_path / "training" / "mask" / "00000.png").unlink()
    (tmp_path / "training" / "color" / "00001.png").unlink()
    with pytest.raises(ValueError, match=r"mask/00000\.png is missing"):
        RhdDataset(tmp_path).sample(0, epoch=0)
    with pytest.raises(ValueError, match=r"color/00001\.png is missing"):
        RhdDataset(tmp_path).sample(1, epoch=0)


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:200], lambda content: b"not a picture"]
)
def test_a_broken_picture_is_named(tmp_path, damage):
    path = write_rhd(tmp_path) / "training" / "color" / "00000.png"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(ValueError, match=r"color/00000\.png is broken, it cannot be read"):
        RhdDataset(tmp_path).sample(0, epoch=0)


def test_a_colour_picture_in_place_of_a_mask_is_refused(tmp_path):
    folder = write_rhd(tmp_path) / "training"
    (folder / "mask" / "00000.png").write_bytes((folder / "color" / "00000.png").read_bytes())

    with pytest.raises(ValueError, match=r"mask/00000\.png must be a grey picture"):
        RhdDataset(tmp_path).sample(0, epoch=0)


def test_an_annotation_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "hostile",)

    path = write_rhd(tmp_path) / "training" / "anno_training.pickle"
    path.write_bytes(pickle.dumps({0: Hostile()}))

    with pytest.raises(ValueError, match=r"anno_training\.pickle cannot be read .* asks for pathlib"):
        RhdDataset(tmp_path)
    assert not (tmp_path / "hostile").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (pickle.dumps([1, 2]), "is not RHD's annotation"),
        (pickle.dumps({}), "is not RHD's annotation"),
        (pickle.dumps({0: {"uv_vis": np.zeros((42, 3))}}), "KeyError"),
        (pickle.dumps({0: {"uv_vis": HOSTILE_ARRAY}}), "expected an array of numbers, found dtype V8"),
        (
            pickle.dumps({0: {"uv_vis": np.zeros((21, 3)), "xyz": np.zeros((42, 3)), "K": K}}),
            "uv_vis of entry 0 must have shape",
        ),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path, content, message):
    path = write_rhd(tmp_path) / "training" / "anno_training.pickle"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=rf"anno_training\.pickle.*{message}"):
        RhdDataset(tmp_path)


@pytest.mark.parametrize("field", ["uv_vis", "xyz", "K"])
def test_an_entry_that_is_not_finite_is_named_and_costs_no_other(tmp_path, field):
    path = write_rhd(tmp_path) / "training" / "anno_training.pickle"
    annotation = pickle.loads(path.read_bytes())
    annotation[1][field] = annotation[1][field].copy()
    annotation[1][field][2, 1] = np.nan
    path.write_bytes(pickle.dumps(annotation))
    dataset = RhdDataset(tmp_path)

    assert dataset.sample(0).is_left
    with pytest.raises(ValueError, match=rf"anno_training\.pickle: {field} of entry 1 must be finite"):
        dataset.sample(1)


def test_a_second_start_decodes_nothing_until_the_annotation_changes(tmp_path, monkeypatch):
    path = write_rhd(tmp_path) / "training" / "anno_training.pickle"
    first = RhdDataset(tmp_path).sample(1)
    with monkeypatch.context() as patch:
        patch.setattr("hamr_lightning.data.rhd.loads", None)
        second = RhdDataset(tmp_path).sample(1)
    np.testing.assert_array_equal(first.joints_3d, second.joints_3d)
    second.intrinsics[:] = 0  # a sample is one's own

    path.write_bytes(pickle.dumps({7: pickle.loads(path.read_bytes())[0]}))
    changed = RhdDataset(tmp_path)
    assert len(changed) == 1
    with pytest.raises(ValueError, match=r"color/00007\.png is missing"):
        changed.sample(0)


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    path = write_rhd(tmp_path) / "training" / "anno_training.pickle"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol=protocol))

    np.testing.assert_allclose(RhdDataset(tmp_path).sample(0, epoch=0).joints_3d, hand(-0.1), atol=1e-6)


@pytest.mark.skipif(not REAL, reason="needs the folder RHD_published_v2, named by HAMR_RHD_ROOT")
@pytest.mark.parametrize("split", FOLDERS)
@pytest.mark.filterwarnings("ignore:.*mask is missing:UserWarning")
def test_the_published_data_fits_its_camera(split):
    dataset = RhdDataset(REAL, split)
    for index in range(min(len(dataset), 20)):
        sample = dataset.sample(index, epoch=0)
        projected = sample.joints_3d @ sample.intrinsics.T
        np.testing.assert_allclose(sample.joints_2d_px, projected[:, :2] / projected[:, 2:], atol=0.1)
