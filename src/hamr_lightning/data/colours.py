"""The change of a crop's colours, and noise: a few numbers, and what they mean."""

import math
from collections.abc import Callable
from typing import Final, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, UInt8
from numba import njit
from numpy.polynomial import Chebyshev, Polynomial

from hamr_lightning.compiled import compiled


class Colours(NamedTuple):
    """How a crop's colours change, in this order; the paper names none, and with one order CPU and GPU do the same.

    After each step values are clipped to [0, 1]. The defaults change nothing.
    """

    brightness: float = 1.0
    """Factor on all values, at least 0."""
    contrast: float = 1.0
    """Factor, at least 0, on the distance from the mean of the whole crop's grey values."""
    saturation: float = 1.0
    """Factor, at least 0, on the distance from the pixel's grey value, 0.299 R + 0.587 G + 0.114 B."""
    hue: float = 0.0
    """Shift as a share of the colour circle, in HSV; within [-0.5, 0.5]."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, one number for each value."""
    seed: int = 0
    """Of the noise, in [0, 2^64)."""

    @property
    def changes(self) -> bool:
        """Whether anything changes."""
        return self[:5] != _PLAIN[:5]


_PLAIN: Final = Colours()


def recolour(
    pixels: UInt8[np.ndarray, "h w 4"],
    colours: Colours,
    image: Float32[np.ndarray, "3 h w"],
    mask: Float32[np.ndarray, "h w"],
) -> None:
    """Write red, green and blue with their colours changed to an image in [0, 1], and the fourth channel to a mask.

    All arrays must be contiguous.
    """
    words, image, mask = pixels.reshape(-1).view(np.uint32), image.reshape(3, -1), mask.reshape(-1)
    if not colours.changes:
        _unpack(words, image, mask)
        return
    write_noise(np.uint64(colours.seed), np.float32(colours.noise), image.reshape(-1))
    _add_colours(words, np.array(colours[:4], np.float32), image, mask)


def _coefficients(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> tuple[np.float32, ...]:
    polynomial = Chebyshev.interpolate(function, 6, domain=[low, high]).convert(kind=Polynomial)
    return tuple(polynomial.coef.astype(np.float32))


# Within 3e-6 of the functions, whose calls would keep the loop from being vectorised.
_LOG2: Final = _coefficients(np.log2, 1.0, 2.0)
_COSINE: Final = _coefficients(lambda squared: np.cos(2 * np.pi * np.sqrt(squared)), 0.0, 0.25)
_SINE: Final = _coefficients(lambda squared: 2 * np.pi * np.sinc(2 * np.sqrt(squared)), 0.0, 0.25)  # over the argument
_ROUNDS: Final = 7


@njit(nogil=True, inline="always")
@no_type_check
def _philox(counter, seed):
    """Return two random words of 32 bits: Philox 2x32 (Salmon et al., 2011) with the seed as key and upper counter."""
    left, right, key = np.uint32(counter), np.uint32(seed), np.uint32(seed >> np.uint64(32))
    for _ in range(_ROUNDS):
        product = np.uint64(0xD256D193) * np.uint64(left)
        left = np.uint32(product >> np.uint64(32)) ^ key ^ right
        right = np.uint32(product)
        key = np.uint32(key + np.uint32(0x9E3779B9))
    return left, right


@njit(nogil=True, inline="always")
@no_type_check
def _evaluate(coefficients, x):
    c0, c1, c2, c3, c4, c5, c6 = coefficients
    return c0 + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * (c5 + x * c6)))))


@compiled(error_model="numpy", fastmath=True)
@no_type_check
def write_noise(seed, deviation, out):
    """Write Gaussian noise of mean 0 to out (n,), a pure function of seed, index and n (Box and Muller, 1958)."""
    half = (len(out) + 1) // 2
    for index in range(half):
        first, second = _philox(index, seed)
        number = np.float32(first) + np.float32(0.5)  # in (0, 2^32]
        bits = np.float32(number).view(np.int32)
        exponent = np.float32((bits >> np.int32(23)) - np.int32(127))
        mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
        log2 = exponent + _evaluate(_LOG2, mantissa) - np.float32(32)
        radius = deviation * np.sqrt(max(np.float32(-2 * math.log(2)) * log2, np.float32(0)))
        turn = np.float32(np.int32(second)) * np.float32(2.0**-32)  # in [-1/2, 1/2]
        squared = turn * turn
        out[index] = radius * _evaluate(_COSINE, squared)
        if index + half < len(out):
            out[index + half] = radius * turn * _evaluate(_SINE, squared)


@njit(nogil=True, inline="always")
@no_type_check
def _clip(value):
    return min(max(value, np.float32(0)), np.float32(1))


@njit(nogil=True, inline="always")
@no_type_check
def _grey(red, green, blue):
    return np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue


@njit(nogil=True, inline="always")
@no_type_check
def _channel(word, number):
    return np.float32(np.int32(word >> np.uint32(8 * number) & np.uint32(255)))


@compiled(error_model="numpy")
@no_type_check
def _unpack(words, image, mask):
    """Write the pixels' four bytes (n,), over 255, to image (3, n) and mask (n,)."""
    for i in range(len(words)):
        for channel in range(3):
            image[channel, i] = _channel(words[i], channel) / np.float32(255)
        mask[i] = _channel(words[i], 3) / np.float32(255)


@compiled(error_model="numpy", fastmath=True)
@no_type_check
def _add_colours(words, factors, image, mask):
    """Add recoloured pixels (n,) to noise in image (3, n), and clip; without branches, so that it is vectorised."""
    brightness, contrast, saturation, shift = factors[0], factors[1], factors[2], np.float32(6) * factors[3]
    gain = brightness / np.float32(255)
    total = np.float32(0)
    for i in range(len(words)):
        red, green, blue = _brightened(words[i], gain)
        total += _grey(red, green, blue)
    lift = (np.float32(1) - contrast) * total / np.float32(len(words))
    for i in range(len(words)):
        red, green, blue = _brightened(words[i], gain)
        red, green, blue = _clip(contrast * red + lift), _clip(contrast * green + lift), _clip(contrast * blue + lift)
        grey = (np.float32(1) - saturation) * _grey(red, green, blue)
        red, green, blue = (
            _clip(saturation * red + grey),
            _clip(saturation * green + grey),
            _clip(saturation * blue + grey),
        )
        highest, lowest = max(red, max(green, blue)), min(red, min(green, blue))
        chroma = highest - lowest
        scale = np.float32(1) / max(chroma, np.float32(1e-12))
        hue = (red - green) * scale + np.float32(4)  # in sixths of the circle
        hue = (blue - red) * scale + np.float32(2) if highest == green else hue
        hue = (green - blue) * scale if highest == red else hue
        hue += shift
        hue -= np.float32(6) * np.floor(hue * np.float32(1 / 6))
        red = lowest + chroma * _clip(abs(hue - np.float32(3)) - np.float32(1))
        green = lowest + chroma * _clip(np.float32(2) - abs(hue - np.float32(2)))
        blue = lowest + chroma * _clip(np.float32(2) - abs(hue - np.float32(4)))
        image[0, i] = _clip(red + image[0, i])
        image[1, i] = _clip(green + image[1, i])
        image[2, i] = _clip(blue + image[2, i])
        mask[i] = _channel(words[i], 3) / np.float32(255)


@njit(nogil=True, inline="always")
@no_type_check
def _brightened(word, gain):
    return _clip(gain * _channel(word, 0)), _clip(gain * _channel(word, 1)), _clip(gain * _channel(word, 2))
