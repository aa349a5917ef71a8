"""What every registered data set promises, whoever wrote it; one without a small copy to read fails."""

import pickle
from dataclasses import fields, replace

import jaxtyping
import numpy as np
import pytest
import torch

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.pinhole import project
from hamr_lightning.registry import available, build, find
from hamr_lightning.types import HandBatch
from layouts.stored import SPLITS, write_stored

RENDERED = {"synthetic": {"count": 2, "val_count": 2, "render_size": 96}}
ALL = [(name, split) for name in RENDERED for split in ("train", "val")]
ALL += [(name, split) for name, splits in SPLITS.items() for split in splits]
LEFT = {"coco_hand", "dexter_object", "rhd", "stb"}


@pytest.fixture(scope="module")
def dataset_of(tmp_path_factory):
    """Return a data set by name and split, written or set up once."""
    built = {}

    def get(name, split):
        if (name, split) not in built:
            arguments = {"split": split, **RENDERED.get(name, {})}
            if name not in RENDERED:
                arguments |= write_stored(name, tmp_path_factory.mktemp(name), split)
            built[name, split] = build("dataset", name, **arguments)
        return built[name, split]

    return get


@pytest.fixture(params=ALL, ids="-".join)
def dataset(request, dataset_of):
    return dataset_of(*request.param)


def crop(sample):
    return HandCrop(32)(sample, np.random.default_rng(0))


def assert_same(one, other):
    for field in fields(one):
        np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def mirror_image(sample):
    """Return the picture of a hand in a mirror, as that of a right hand."""
    width = sample.image.shape[1]
    box = sample.box_px
    return replace(
        sample,
        is_left=False,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        mask=None if sample.mask is None else np.ascontiguousarray(sample.mask[:, ::-1]),
        joints_2d_px=[width, 0] + sample.joints_2d_px * [-1, 1],
        joints_3d=sample.joints_3d * [-1, 1, 1],
        box_px=None if box is None else np.array([width - box[2], box[1], width - box[0], box[3]]),
    )


def test_every_registered_data_set_is_held_to_the_contract():
    assert {name for name, _ in ALL} == set(available("dataset"))


def test_a_sample_is_what_it_is_said_to_be(dataset):
    assert len(dataset) >= 2
    for index in range(2):
        sample = dataset.sample(index, 0)
        assert sample.image.dtype == np.uint8
        assert sample.image.ndim == 3
        assert sample.image.shape[2] == 3
        assert sample.source
        for name in ("joints_2d_px", "joints_3d", "box_px", "vertices", "global_orient", "hand_pose", "betas"):
            value = getattr(sample, name)
            assert value is None or np.isfinite(value).all()
        for valid in (sample.joints_2d_valid, sample.joints_3d_valid):
            assert valid is None or (valid.dtype, valid.shape) == (bool, (21,))
        if sample.mask is not None:
            assert sample.mask.dtype == np.uint8
            assert sample.mask.shape == sample.image.shape[:2]
            assert sample.mask.max() == 255


def test_the_key_points_are_the_joints_projected(dataset):
    for index in range(2):
        sample = dataset.sample(index, 0)
        valid = np.ones(21, dtype=bool)
        for given in (sample.joints_2d_valid, sample.joints_3d_valid):
            valid &= True if given is None else given
        assert valid.any()
        assert (sample.joints_3d[valid, 2] > 0.1).all(), "metres, before the camera"
        projected = project(sample.joints_3d[valid].astype(np.float64), sample.intrinsics)
        np.testing.assert_allclose(projected, sample.joints_2d_px[valid], atol=1e-3)


@pytest.mark.parametrize("copied", [False, True], ids=["itself", "pickled"])
def test_a_sample_is_a_function_of_its_index(dataset, copied):
    again = pickle.loads(pickle.dumps(dataset)) if copied else dataset
    for index in (1, 0, 1):
        assert_same(again.sample(index, 0), dataset.sample(index, 0))
    assert len(again) == len(dataset)


@pytest.mark.parametrize(("name", "split"), [pair for pair in ALL if pair[0] not in RENDERED])
def test_stored_data_ignores_the_epoch(dataset_of, name, split):
    dataset = dataset_of(name, split)

    assert_same(dataset.sample(1, 0), dataset.sample(1, 7))
    assert {"train", "val"} >= set(dataset.published)


def test_an_index_out_of_range_is_refused(dataset):
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError, match=rf"\[0, {len(dataset)}\)"):
            dataset.sample(index, 0)


@pytest.mark.parametrize("name", available("dataset"))
def test_an_unknown_split_is_refused(monkeypatch, tmp_path, name):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it before
    required = {} if name in RENDERED else {"root": tmp_path}
    with pytest.raises(ValueError, match=r"split must be .* got 'test'"):
        find("dataset", name)(split="test", **required)


@pytest.mark.parametrize("name", sorted(LEFT))
def test_the_crop_of_a_left_hand_is_that_of_its_mirror_image(dataset_of, name):
    dataset = dataset_of(name, SPLITS[name][0])
    sample = next(sample for sample in (dataset.sample(index, 0) for index in range(2)) if sample.is_left)
    of_left, of_mirrored = crop(sample), crop(mirror_image(sample))

    assert of_left.mirrored.all()
    for field in ("joints_2d", "joints_3d", "joints_camera", "mask"):
        torch.testing.assert_close(getattr(of_left, field), getattr(of_mirrored, field), atol=1e-5, rtol=0)
    assert (of_left.image - of_mirrored.image).abs().max() <= 1 / 255


def test_hands_of_every_data_set_make_one_batch(dataset_of):
    samples = [dataset_of(name, split).sample(index, 0) for name, split in ALL for index in range(2)]
    batch = HandBatch.concatenate([crop(sample) for sample in samples])

    assert len(batch) == len(samples)
    assert batch.image.shape[1:] == (3, 32, 32)
    assert batch.mirrored.tolist() == [sample.is_left for sample in samples]
    assert {name for (name, _), left in zip(np.repeat(ALL, 2, axis=0), batch.mirrored, strict=True) if left} == LEFT
    assert all(value.isfinite().all() for value in vars(batch).values() if isinstance(value, torch.Tensor))
