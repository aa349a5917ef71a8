"""Albumentations' transforms, named in the augmentation."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandSample
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.recipe import load_recipe

BLUR_THEN_INVERT = ({"MotionBlur": {"p": 0.5, "blur_limit": [5, 9]}}, {"InvertImg": {"p": 1.0}})


def with_transforms(*transforms):
    return replace(Augmentation.none(), transforms=transforms)


def crop(augmentation, seed):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sample = HandSample(
        image, "a test", False, np.array([[16.0, 16], [48, 48]] + 19 * [[20, 20]]), mask=image[..., 0].copy()
    )
    return HandCrop(32, 1.0, augmentation)(sample, np.random.default_rng(seed))


def test_pixels_change_and_nothing_else():
    plain, inverted = crop(Augmentation.none(), 0), crop(with_transforms({"InvertImg": {"p": 1.0}}), 0)

    np.testing.assert_allclose(inverted.image, 1 - plain.image, atol=1e-6)
    for name in ("mask", "joints_2d", "crop_to_image"):
        np.testing.assert_array_equal(getattr(inverted, name), getattr(plain, name))


def test_the_same_generator_gives_the_same_change():
    augmentation = with_transforms(*BLUR_THEN_INVERT)
    first = [crop(augmentation, seed).image.numpy() for seed in range(8)]
    again = [crop(augmentation, seed).image.numpy() for seed in reversed(range(8))][::-1]

    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) > 3  # blurred by several kernels, and not blurred


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"MotionBlurr": {}}, "no transform of pixels alone named 'MotionBlurr'.*MotionBlur"),
        ({"HorizontalFlip": {}}, "no transform of pixels alone named 'HorizontalFlip'"),
        ({"ImageOnlyTransform": {}}, "no transform of pixels alone named 'ImageOnlyTransform'"),
        ({"os.system": {}}, "no transform of pixels alone named 'os.system'"),
        ({"MotionBlur": {"strength": 3}}, "MotionBlur refuses its arguments: .*strength"),
        ({"ImageCompression": {"quality_range": [300, 400]}}, "ImageCompression refuses its arguments: .*300"),
        ({"ToFloat": {"p": 1.0}}, "must keep images RGB of 8 bits; .*float32"),
        ({"ToFloat": {"p": 0.01}}, "must keep images RGB of 8 bits; .*float32"),
        ({"FDA": {"p": 0.01}}, "FDA cannot be applied to an image"),
        ({"MotionBlur": {}, "InvertImg": {}}, "a list of one name and its arguments each"),
    ],
)
def test_what_cannot_be_applied_is_refused_at_once(transform, message):
    with pytest.raises(ValueError, match=rf"augmentation\.transforms.* ?{message}"):
        with_transforms(transform)


def test_without_transforms_albumentations_is_not_imported():
    program = (
        "import sys, numpy as np; from hamr_lightning.data.augmentation import Augmentation; "
        "Augmentation().draw_colours(np.random.default_rng(0)); assert 'albumentations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_recipe_names_them():
    named = "[{MotionBlur: {p: 0.3}}, {ImageCompression: {p: 0.5, quality_range: [40, 90]}}]"
    recipe = load_recipe("full", [f"data.augmentation.transforms={named}"])

    assert "MotionBlur" in recipe.to_yaml()
    with pytest.raises(ValueError, match=r"data.*augmentation\.transforms.*did you mean 'MotionBlur'"):
        load_recipe("full", ["data.augmentation.transforms=[{MotionBlurr: {p: 0.3}}]"]).build_datamodule()
