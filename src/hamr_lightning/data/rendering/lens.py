"""What a camera does to a picture: blur, exposure, white balance, contrast and noise."""

from typing import Final, no_type_check

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numba import njit

_GRAIN_MARGIN: Final = 128
_MOST_GRAIN: Final = 8.0


class Lens:
    """Photographs square pictures, with small faults as random as the generator that is handed over.

    Args:
        size: Side of the pictures in pixels.
    """

    def __init__(self, size: int) -> None:
        side = size + _GRAIN_MARGIN
        white = np.random.default_rng(0).standard_normal((side, side, 3), np.float32)
        grain = cv2.GaussianBlur(white, (0, 0), 0.5)
        self._size = size
        self._grain: Float32[np.ndarray, "g g 3"] = grain / grain.std()

    def photograph(self, picture: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
        """Return the picture as a camera gives it."""
        scale = self._size / 256
        defocus = scale * rng.exponential(0.4)
        if defocus > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), defocus)
        if rng.random() < 0.15:
            picture = cv2.filter2D(picture, -1, _streak(rng.uniform(2, 7) * scale, rng.uniform(0, np.pi)))
        top, left = rng.integers(_GRAIN_MARGIN, size=2)
        grain = self._grain[top : top + self._size, left : left + self._size]
        strength = min(rng.exponential(2.5), _MOST_GRAIN) * rng.choice((-1, 1))
        return _develop(picture, _tone_curves(rng), grain, np.float32(strength))


@njit(nogil=True, cache=True)
@no_type_check
def _develop(picture, curves, grain, strength):
    developed = np.empty_like(picture)
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            for channel in range(3):
                level = curves[picture[row, column, channel], channel] + strength * grain[row, column, channel]
                developed[row, column, channel] = np.uint8(min(max(level, np.float32(0)), np.float32(255)))
    return developed


def _streak(length: float, angle: float) -> Float32[np.ndarray, "k k"]:
    """Return the kernel of a straight motion."""
    side = 2 * int(length / 2 + 1) + 1
    middle = side / 2
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    fine = np.zeros((8 * side, 8 * side), np.float32)
    start, end = (8 * (middle - reach)).astype(int), (8 * (middle + reach)).astype(int)
    cv2.line(fine, start.tolist(), end.tolist(), 1.0, 8)
    kernel = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return kernel / kernel.sum()


def _tone_curves(rng: np.random.Generator) -> Float32[np.ndarray, "256 3"]:
    """Return each channel's levels: exposure, white balance and contrast."""
    gain = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.04, 3))
    gamma = np.exp(rng.normal(0, 0.12))
    return (255 * np.linspace(0, 1, 256)[:, None] ** gamma * gain + 0.5).astype(np.float32)
