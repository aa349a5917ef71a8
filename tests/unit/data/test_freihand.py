"""FreiHAND: hands written in its exact layout come back, and whatever is broken in it is named."""

import cv2
import numpy as np
import pytest
import torch

from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.freihand import FreihandDataset
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel
from layouts.freihand import GAINS, read_json, write_freihand, write_json
from mano_files import official_pickle, random_arrays, write

COUNT = 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_known_hands_come_back(tmp_path, mano, split):
    hands = write_freihand(tmp_path, split, COUNT)
    dataset = FreihandDataset(tmp_path, split, hand=str(mano))

    assert len(dataset) == COUNT * (4 if split == "train" else 1)
    for index in range(len(dataset)):
        hand, sample = hands[index % COUNT], dataset.sample(index, epoch=3)
        assert not sample.is_left
        assert sample.joints_2d_valid is None
        assert sample.joints_3d_valid is None
        np.testing.assert_allclose(sample.joints_3d, hand.joints_3d, atol=1e-6)
        np.testing.assert_allclose(sample.vertices, hand.vertices, atol=1e-6)
        np.testing.assert_allclose(sample.joints_2d_px, hand.joints_2d_px, atol=1e-3)
        np.testing.assert_allclose(sample.intrinsics, hand.intrinsics, atol=1e-5)


def test_a_hand_comes_with_each_background(tmp_path):
    hands = write_freihand(tmp_path, count=COUNT)
    dataset = FreihandDataset(tmp_path)
    for background, gain in enumerate(GAINS.values()):
        for number, hand in enumerate(hands):
            sample = dataset.sample(background * COUNT + number)
            assert sample.source.endswith(f"training/rgb/{background * COUNT + number:08d}.jpg")
            assert sample.image.mean() == pytest.approx(gain * hand.image.mean(), rel=0.02)


def test_backgrounds_may_be_chosen(tmp_path):
    write_freihand(tmp_path, count=COUNT)
    dataset = FreihandDataset(tmp_path, versions=["auto", "hom"])

    assert len(dataset) == 2 * COUNT
    assert dataset.published == {"train": 65_120, "val": 3_960}
    assert [dataset.sample(index).source[-6:-4] for index in range(6)] == ["09", "10", "11", "03", "04", "05"]
    with pytest.raises(ValueError, match=r"versions must be some of gs, hom, sample, auto, got \[\]"):
        FreihandDataset(tmp_path, versions=[])


def test_the_published_counts_are_known(tmp_path):
    write_freihand(tmp_path)

    assert FreihandDataset(tmp_path).published == {"train": 130_240, "val": 3_960}


def test_masks_come_back_within_a_pixel(tmp_path):
    hands = write_freihand(tmp_path, count=COUNT)
    dataset = FreihandDataset(tmp_path)
    for index in range(len(dataset)):
        mask, known = dataset.sample(index).mask, np.uint8(255) * (hands[index % COUNT].mask >= 128)
        assert set(np.unique(mask)) == {0, 255}
        assert (cv2.erode(known, np.ones((3, 3))) <= mask).all()
        assert (mask <= cv2.dilate(known, np.ones((3, 3)))).all()


def test_evaluation_hands_have_no_mask(tmp_path):
    write_freihand(tmp_path, "val")

    assert FreihandDataset(tmp_path, "val").sample(0).mask is None


@pytest.mark.parametrize("truth", [False, True])
def test_an_evaluation_crop_is_the_whole_picture_whatever_is_annotated(tmp_path, mano, truth):
    write_freihand(tmp_path, "val", truth=truth)
    sample = FreihandDataset(tmp_path, "val", hand=str(mano)).sample(0)
    batch = HandCrop(size=224, margin=1.6)(sample, np.random.default_rng(0))

    np.testing.assert_allclose(batch.image[0].permute(1, 2, 0).numpy() * 255, sample.image, atol=0.51)
    assert batch.has("joints_2d", "joints_3d", "vertices").item() is truth


def test_without_what_was_published_later_an_evaluation_hand_is_not_annotated(tmp_path, mano):
    write_freihand(tmp_path, "val", truth=False)
    sample = FreihandDataset(tmp_path, "val", hand=str(mano)).sample(0)

    assert not sample.joints_2d_valid.any()
    assert np.isfinite(sample.joints_2d_px).all()
    assert sample.joints_3d is sample.vertices is sample.hand_pose is None


def test_parameters_of_mano_pose_it_to_the_vertices(tmp_path, mano):
    hand = HandModel.load(mano)
    write_freihand(tmp_path, pose_mean=hand.pose_mean)
    sample = FreihandDataset(tmp_path, hand=str(mano)).sample(1)
    decoder = ManoDecoder(hand, pose_components=None, flat_hand_mean=True)
    parameters = (sample.global_orient, sample.hand_pose, sample.betas)
    posed = decoder(*(torch.tensor(values[None], dtype=torch.float32) for values in parameters)).vertices[0].numpy()

    np.testing.assert_allclose(
        posed - posed.mean(axis=0), sample.vertices - sample.vertices.mean(axis=0, dtype=np.float64), atol=2e-6
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_of_mano_is_not_given_to_another_hand_model(tmp_path, split):
    write_freihand(tmp_path, split)
    sample = FreihandDataset(tmp_path, split, hand="open").sample(0)

    assert sample.vertices is sample.global_orient is sample.hand_pose is sample.betas is None
    assert sample.joints_3d is not None


def test_a_left_hand_model_is_refused(tmp_path):
    write_freihand(tmp_path)
    path = write(tmp_path / "MANO_LEFT.pkl", official_pickle(random_arrays("left")))

    with pytest.raises(ValueError, match="hand must be a right one, as all of FreiHAND's are, got MANO_LEFT"):
        FreihandDataset(tmp_path, hand=str(path))


def test_an_index_beyond_the_end_is_refused(tmp_path):
    write_freihand(tmp_path, count=1)
    dataset = FreihandDataset(tmp_path)
    for index in (4, -1):
        with pytest.raises(IndexError, match=r"not in \[0, 4\)"):
            dataset.sample(index)


@pytest.mark.parametrize("field", ["K", "xyz", "verts", "mano"])
def test_a_missing_training_file_is_named(tmp_path, field):
    write_freihand(tmp_path)
    (tmp_path / f"training_{field}.json").unlink()

    with pytest.raises(ValueError, match=rf"training_{field}\.json is missing"):
        FreihandDataset(tmp_path)


def test_without_masks_there_is_a_warning(tmp_path):
    write_freihand(tmp_path, count=1)
    for path in (tmp_path / "training" / "mask").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"mask/00000000\.jpg is missing"):
        FreihandDataset(tmp_path).sample(0)
    (tmp_path / "training" / "mask").rmdir()

    with pytest.warns(UserWarning, match=r"training/mask is missing: no hand has a mask"):
        dataset = FreihandDataset(tmp_path)
    assert dataset.sample(0).mask is None


@pytest.mark.parametrize("name", ["rgb", "mask"])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100], lambda content: b"no picture"])
def test_a_broken_picture_is_named(tmp_path, name, damage):
    write_freihand(tmp_path, count=1)
    path = tmp_path / "training" / name / "00000000.jpg"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(ValueError, match=rf"{name}/00000000\.jpg is broken"):
        FreihandDataset(tmp_path).sample(0)


@pytest.mark.parametrize("field", ["xyz", "verts", "mano"])
def test_a_file_of_another_length_than_the_others_is_named(tmp_path, field):
    write_freihand(tmp_path)
    write_json(tmp_path, "train", field, read_json(tmp_path, "train", field)[:-1])

    with pytest.raises(ValueError, match=rf"training_{field}\.json has 2 entries and .*training_K\.json 3"):
        FreihandDataset(tmp_path)


@pytest.mark.parametrize("pictures", [11, 7, 0])
def test_another_number_of_pictures_than_of_hands_is_named(tmp_path, pictures):
    write_freihand(tmp_path, count=COUNT)
    for path in sorted((tmp_path / "training" / "rgb").iterdir())[pictures:]:
        path.unlink()

    with pytest.raises(ValueError, match=rf"training/rgb holds {pictures} pictures where .* of 3 hands, needs 4"):
        FreihandDataset(tmp_path)


def test_backgrounds_that_are_not_wanted_need_not_be_there(tmp_path):
    write_freihand(tmp_path, count=COUNT)
    for path in sorted((tmp_path / "training" / "rgb").iterdir())[2 * COUNT :]:
        path.unlink()

    assert len(FreihandDataset(tmp_path, versions=["hom"])) == COUNT
    with pytest.raises(ValueError, match="holds 6 pictures"):
        FreihandDataset(tmp_path, versions=["sample"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a JSON list"),
        ("{}", "is not a JSON list"),
        ("[]", "is an empty list"),
        ("[[[NaN]]]", "it holds NaN"),
        ("[1e400]", "it holds 1e400"),
        ("[[[1e39, 0, 0]]]", "entry 0 must have shape .* and be finite"),
        ("[[[0, 0, 0], [0, 0]]]", "entry 0 is no array of numbers"),
        ('["a"]', "entry 0 is no array of numbers"),
        ("[null]", "entry 0"),
        ("[[[0, 0, 0]]]", r"entry 0 must have shape \(21, 3\) and be finite, got shape \(3,\)"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    write_freihand(tmp_path)
    path = tmp_path / "training_xyz.json"
    path.write_text(content)

    with pytest.raises(ValueError, match=rf"training_xyz\.json.*{message}"):
        FreihandDataset(tmp_path)


def test_an_entry_of_another_shape_is_named(tmp_path):
    write_freihand(tmp_path)
    entries = read_json(tmp_path, "train", "xyz")
    write_json(tmp_path, "train", "xyz", [*entries[:2], np.transpose(entries[2]).tolist()])

    with pytest.raises(
        ValueError, match=r"training_xyz\.json: entry 2 must have shape \(21, 3\) .*got shape \(3, 21\)"
    ):
        FreihandDataset(tmp_path)


def test_mended_annotation_is_read_anew(tmp_path):
    write_freihand(tmp_path)
    before = FreihandDataset(tmp_path).sample(0).joints_3d
    write_json(tmp_path, "train", "xyz", (np.array(read_json(tmp_path, "train", "xyz")) + 0.125).tolist())

    np.testing.assert_allclose(FreihandDataset(tmp_path).sample(0).joints_3d, before + 0.125, atol=1e-6)


def test_a_picture_missing_among_the_others_is_named_when_it_is_read(tmp_path):
    write_freihand(tmp_path, count=COUNT)
    (tmp_path / "training" / "rgb" / "00000004.jpg").unlink()
    dataset = FreihandDataset(tmp_path)

    assert dataset.sample(5).source.endswith("00000005.jpg")
    with pytest.raises(ValueError, match=r"00000004\.jpg is missing"):
        dataset.sample(4)
