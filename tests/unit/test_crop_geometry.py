"""Where crops lie in their source images, for right and left hands and crops beyond the border."""

from dataclasses import replace

import numpy as np
import pytest

from hamr_lightning.crop_geometry import shown_by_source, to_source_pixels
from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandSample
from hamr_lightning.data.crop import HandCrop

WHITE = np.full((96, 128, 3), 255, np.uint8)


def crop(joints_px, is_left=False, size=64, image=WHITE, seed=0):
    sample = HandSample(image, "a test", is_left, joints_px)
    turned = replace(Augmentation.none(), rotation=60.0)
    return HandCrop(size, 1.6, turned)(sample, np.random.default_rng(seed))


@pytest.mark.parametrize("is_left", [False, True])
def test_joints_come_back_to_their_pixels(is_left):
    joints_px = np.random.default_rng(1).uniform([30, 20], [90, 80], (21, 2))
    batch = crop(joints_px, is_left)

    np.testing.assert_allclose(to_source_pixels(batch.joints_2d, batch)[0], joints_px, atol=1e-4)


@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_what_the_source_shows_is_what_a_white_picture_paints(is_left, seed):
    joints_px = np.random.default_rng(1).uniform([90, 60], [130, 100], (21, 2))
    batch = crop(joints_px, is_left, seed=seed)
    white = batch.image[0, 0]
    shown = shown_by_source(batch, 64)[0]

    assert 0.1 < shown.mean() < 0.9
    clear = (white == 0) | (white == 1)  # on the border itself, the warp has mixed colours
    assert (white[clear] == shown[clear]).float().mean() > 0.995
    assert clear.float().mean() > 0.9


def test_a_batch_that_does_not_know_its_source_is_shown_whole():
    batch = crop(np.random.default_rng(1).uniform([90, 60], [130, 100], (21, 2)))

    for unknown in ("crop_to_image", "image_size_px"):
        assert shown_by_source(replace(batch, **{unknown: None}), 16).eq(1).all()
    with pytest.raises(ValueError, match="crop_to_image is None"):
        to_source_pixels(batch.joints_2d, replace(batch, crop_to_image=None))
