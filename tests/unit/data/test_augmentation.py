"""The augmentation's bounds, its identity, and its draws."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.colours import recolour


def test_none_changes_nothing():
    none = Augmentation.none()

    assert none.draw_geometry(np.random.default_rng(0)) == (1, 0)
    assert not none.draw_colours(np.random.default_rng(0)).changes


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


def test_colours_are_drawn_over_the_whole_range():
    generator = np.random.default_rng(0)
    draws = np.array([Augmentation().draw_colours(generator)[:4] for _ in range(4000)])

    np.testing.assert_allclose(draws.min(axis=0), [0.2, 0.3, 0.4, -0.1], atol=0.01)
    np.testing.assert_allclose(draws.max(axis=0), [1.8, 1.7, 1.6, 0.1], atol=0.01)
    np.testing.assert_allclose(draws.mean(axis=0), [1, 1, 1, 0], atol=0.03)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(4), atol=0.06)


def test_the_same_generator_gives_the_same_colours():
    first, again, other = (Augmentation().draw_colours(np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first == again
    assert len({first.seed, other.seed, Augmentation().draw_colours(np.random.default_rng(3)).seed}) == 3


def test_noise_has_the_standard_deviation_given():
    noisy = replace(Augmentation.none(), noise=0.01).draw_colours(np.random.default_rng(0))
    image, mask = np.empty((3, 200, 200), np.float32), np.empty((200, 200), np.float32)
    recolour(np.full((200, 200, 4), 128, np.uint8), noisy, image, mask)

    assert image.std() == pytest.approx(0.01, rel=0.02)
    assert image.mean() == pytest.approx(128 / 255, abs=1e-4)
