"""The augmentation's bounds, its identity, and its draws."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hamr_lightning.data.augmentation import Augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def test_none_changes_nothing():
    none = Augmentation.none()

    assert none.draw_geometry(np.random.default_rng(0)) == (1, 0)
    np.testing.assert_array_equal(none.recolour(IMAGE, np.random.default_rng(0)), np.float32(IMAGE) / 255)


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("scale", (0.0, 1.0), "at least 0.1"),
        ("scale", (1.2, 0.9), "the lower first"),
        ("brightness", (-0.1, 1.0), "at least 0.0"),
        ("contrast", (0.3, math.inf), "two factors"),
        ("saturation", (math.nan, 1.0), "two factors"),
        ("rotation", 181.0, "between 0, .* and 180"),
        ("hue", 0.6, "between 0, .* and 0.5"),
        ("noise", -0.01, "between 0, .* and 1"),
        ("noise", math.nan, "between 0, .* and 1"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name, value, bound):
    with pytest.raises(ValueError, match=rf"augmentation\.{name} .*{bound}"):
        Augmentation(**{name: value})


def test_geometry_is_drawn_over_the_whole_range():
    generator = np.random.default_rng(0)
    draws = np.array([Augmentation().draw_geometry(generator) for _ in range(4000)])

    np.testing.assert_allclose(draws.min(axis=0), [0.9, -math.pi / 3], atol=0.01)
    np.testing.assert_allclose(draws.max(axis=0), [1.2, math.pi / 3], atol=0.01)
    np.testing.assert_allclose(draws.mean(axis=0), [1.05, 0], atol=0.03)


def test_the_same_generator_gives_the_same_colours():
    first, again, other = (Augmentation().recolour(IMAGE, np.random.default_rng(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


def test_brightness_is_a_factor():
    halved = replace(Augmentation.none(), brightness=(0.5, 0.5)).recolour(IMAGE, np.random.default_rng(0))

    np.testing.assert_allclose(halved, IMAGE / 510, atol=1 / 255)


def test_noise_has_the_standard_deviation_given():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = replace(Augmentation.none(), noise=0.01).recolour(grey, np.random.default_rng(0))

    assert noisy.std() == pytest.approx(0.01, rel=0.02)
    assert noisy.mean() == pytest.approx(128 / 255, abs=1e-4)


def test_colours_stay_in_range():
    wild = Augmentation(brightness=(1.8, 1.8), contrast=(1.7, 1.7), noise=0.5)
    recoloured = wild.recolour(IMAGE, np.random.default_rng(0))

    assert (recoloured.min(), recoloured.max()) == (0, 1)
