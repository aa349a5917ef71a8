"""The colour kernel against the libraries whose definitions it shares, and the noise against what Gaussian means."""

import colorsys
import os

import cv2
import numpy as np
import pytest
from scipy import stats

from hamr_lightning.data.colours import Colours, recolour, write_noise

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
SIZE = 64


def photograph(seed=0):
    """Colours of every kind, and some greys, black and white."""
    image = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    image[:8] = image[:8, :, :1]
    image[0], image[1] = 0, 255
    return image


def recoloured(image, colours):
    pixels = np.dstack([image, image[..., 0] // 2])
    result, mask = np.empty((3, *image.shape[:2]), np.float32), np.empty(image.shape[:2], np.float32)
    recolour(pixels, colours, result, mask)
    np.testing.assert_allclose(mask, pixels[..., 3] / 255, rtol=1e-6)
    return result.transpose(1, 2, 0)


def by_the_book(image, colours):
    """What :class:`Colours` says, pixel by pixel, by Python's own HSV."""
    values = np.clip(colours.brightness * (image / 255.0), 0, 1)
    mean = (values @ [0.299, 0.587, 0.114]).mean()
    values = np.clip(mean + colours.contrast * (values - mean), 0, 1)
    grey = (values @ [0.299, 0.587, 0.114])[..., None]
    values = np.clip(grey + colours.saturation * (values - grey), 0, 1)

    def shifted(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + colours.hue) % 1, saturation, value)

    return np.apply_along_axis(shifted, 2, values)


def drawn_colours(count):
    generator = np.random.default_rng(1)
    low, high = [0.2, 0.3, 0.4, -0.5], [1.8, 1.7, 1.6, 0.5]
    return [Colours(*generator.uniform(low, high)) for _ in range(count)]


@pytest.mark.parametrize(
    "colours",
    [
        Colours(brightness=1.5),
        Colours(contrast=0.3),
        Colours(saturation=1.6),
        Colours(saturation=0.0),
        Colours(hue=0.5),
        Colours(hue=-0.5),
        *drawn_colours(5),
    ],
)
def test_colours_are_as_defined(colours):
    image = photograph()

    np.testing.assert_allclose(recoloured(image, colours), by_the_book(image, colours), atol=2e-5)


@pytest.mark.parametrize("colours", drawn_colours(5))
def test_albumentations_means_the_same(colours):
    from albumentations.augmentations.pixel import functional

    image = photograph()
    expected = functional.adjust_brightness_torchvision(image, colours.brightness)
    expected = functional.adjust_contrast_torchvision(expected, colours.contrast)
    expected = functional.adjust_saturation_torchvision(expected, colours.saturation)
    ours = recoloured(image, colours._replace(hue=0.0)) * 255
    # It rounds, or truncates, to whole steps of 255 after each of the three; later factors, up to 1.7 * 1.6, grow that.
    np.testing.assert_allclose(ours, expected, atol=1.7 * 1.6 + 1.6 * 1.6 + 1.1)

    # The hue by itself: in 180 steps of two degrees, each up to 255 / 30 = 8.5 levels of a channel, and truncated.
    quantised = round(colours.hue * 180) / 180
    expected = functional.adjust_hue_torchvision(image, quantised)
    np.testing.assert_allclose(recoloured(image, Colours(hue=quantised)) * 255, expected, atol=10)
    assert np.abs(recoloured(image, Colours(hue=quantised)) * 255 - expected).mean() < 2.5


def test_colours_that_change_nothing_give_the_image_itself():
    image = photograph()

    np.testing.assert_array_equal(recoloured(image, Colours(seed=5)), np.float32(image) / 255)
    np.testing.assert_allclose(recoloured(image, Colours(hue=1e-9)), image / 255, atol=1e-6)


def test_without_brightness_all_is_black():
    assert recoloured(photograph(), Colours(brightness=0.0, contrast=0.5, hue=0.1)).max() == 0


def test_noise_is_added_last_and_clipped():
    image, noisy = photograph(), Colours(0.8, 1.2, 1.3, 0.1, noise=0.1, seed=3)
    noise = np.empty(image.size, np.float32)
    write_noise(np.uint64(3), np.float32(0.1), noise)
    expected = recoloured(image, noisy._replace(noise=0.0)) + noise.reshape(3, SIZE, SIZE).transpose(1, 2, 0)

    np.testing.assert_allclose(recoloured(image, noisy), expected.clip(0, 1), atol=1e-6)


def philox(counter, seed):
    """Return the two words of Philox 2x32 in seven rounds, in Python's whole numbers."""
    left, right, key = counter, seed % 2**32, seed >> 32
    for _ in range(7):
        product = 0xD256D193 * left
        left, right = product >> 32 ^ key ^ right, product % 2**32
        key = (key + 0x9E3779B9) % 2**32
    return left, right


def test_the_generator_is_philox():
    """The words are those that the authors of Philox publish; the noise is Box and Muller's of them."""
    assert philox(0, 0) == (0x257A3673, 0xCD26BE2A)
    assert philox(0xFFFFFFFF, 2**64 - 1) == (0xAB302C4D, 0x3DC9D239)

    noise, seed = np.empty(1001, np.float32), 0x123456789ABCDEF0
    write_noise(np.uint64(seed), np.float32(2), noise)
    first, second = np.array([philox(counter, seed) for counter in range(501)], np.float64).T
    radius, angle = 2 * np.sqrt(-2 * np.log((first + 0.5) / 2**32)), 2 * np.pi * second / 2**32
    np.testing.assert_allclose(noise, np.append(radius * np.cos(angle), (radius * np.sin(angle))[:500]), atol=1e-4)


@pytest.fixture(scope="module")
def noises():
    generator = np.random.default_rng(0)
    rows = np.empty((40, 3 * SIZE * SIZE), np.float32)
    for row in rows:
        write_noise(generator.integers(2**64, dtype=np.uint64), np.float32(1), row)
    return rows.astype(np.float64)


def test_noise_is_gaussian(noises):
    """Each figure within four of its own standard errors, and the whole distribution by Kolmogorov and Smirnov."""
    count = noises.size

    assert abs(noises.mean()) < 4 / np.sqrt(count)
    assert abs(noises.std() - 1) < 4 / np.sqrt(2 * count)
    assert abs(stats.skew(noises, axis=None)) < 4 * np.sqrt(6 / count)
    assert abs(stats.kurtosis(noises, axis=None)) < 4 * np.sqrt(24 / count)
    assert stats.kstest(noises.ravel(), "norm").pvalue > 1e-3
    assert 4 < np.abs(noises).max() < 6.8


def test_noise_has_no_structure(noises):
    """No correlation between neighbours, channels, the halves that share random words, or samples of near seeds."""
    planes = noises.reshape(-1, 3, SIZE, SIZE)
    half = noises.shape[1] // 2
    pairs = {
        "columns": (planes[..., 1:], planes[..., :-1]),
        "rows": (planes[..., 1:, :], planes[..., :-1, :]),
        "channels": (planes[:, 1:], planes[:, :-1]),
        "halves": (noises[:, :half], noises[:, half:]),
        "squares of the halves": (noises[:, :half] ** 2 - 1, noises[:, half:] ** 2 - 1),
        "samples": (noises[1:], noises[:-1]),
    }
    near = np.empty((2, 2**17), np.float32)
    for row, seed in zip(near, (7, 8), strict=True):
        write_noise(np.uint64(seed), np.float32(1), row)
    pairs["near seeds"] = tuple(near.astype(np.float64))
    for name, (first, second) in pairs.items():
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size), name

    power = (np.abs(np.fft.rfft2(planes)) ** 2).mean(axis=(0, 1)) / SIZE**2  # 120 pictures: deviation 1/sqrt(120)
    assert np.abs(power[1:, 1:-1] - 1).max() < 6 / np.sqrt(120)


def test_the_hue_of_opencv_turns_the_same_way():
    red = np.full((2, 2, 3), (200, 40, 40), np.uint8)
    hsv = cv2.cvtColor(red, cv2.COLOR_RGB2HSV)
    hsv[..., 0] += 30  # of 180: a sixth, to yellow
    np.testing.assert_allclose(recoloured(red, Colours(hue=1 / 6)) * 255, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), atol=1)
