"""What a camera does to a picture: blur, exposure, white balance, contrast and noise."""

import math
from typing import Final, no_type_check

import cv2
import numpy as np
from jaxtyping import Float32, Int8, UInt8

from hamr_lightning.compiled import compiled

_GRAIN_MARGIN: Final = 128
_MOST_GRAIN: Final = 8.0
_GRAIN_STEPS: Final = 25.0


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
        self._grain: Int8[np.ndarray, "g g3"] = (
            np.clip(np.rint(grain * (_GRAIN_STEPS / grain.std())), -127, 127).astype(np.int8).reshape(side, -1)
        )

    def photograph(self, picture: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
        """Return the picture as a camera gives it."""
        scale = self._size / 256
        defocus = scale * rng.exponential(0.4)
        if defocus > 0.3:
            picture = soften(picture, defocus)
        if rng.random() < 0.15:
            picture = _smear(picture, _streak(rng.uniform(2, 7) * scale, rng.uniform(0, np.pi)))
        top, left = rng.integers(_GRAIN_MARGIN, size=2).tolist()
        grain = self._grain[top : top + self._size, 3 * left : 3 * (left + self._size)]
        strength = min(rng.exponential(2.5), _MOST_GRAIN) * rng.choice((-1, 1))
        return _develop(picture, _tone_curves(rng), grain, np.float32(strength / _GRAIN_STEPS))


def soften(picture: UInt8[np.ndarray, "h w 3"], deviation: float) -> UInt8[np.ndarray, "h w 3"]:
    """Blur a picture with a Gaussian of a standard deviation in pixels, its tails cut off at about twice that."""
    side = 2 * math.ceil(2 * deviation - 0.3) + 1
    return cv2.GaussianBlur(picture, (side, side), deviation)


def _smear(picture: UInt8[np.ndarray, "h w 3"], kernel: Float32[np.ndarray, "k k"]) -> UInt8[np.ndarray, "h w 3"]:
    """Correlate a picture with a small kernel of sum 1 that is mostly 0, in steps of 1/256."""
    margin = len(kernel) // 2
    weights = np.rint(256 * kernel).astype(np.int32)
    weights[margin, margin] += 256 - weights.sum()
    padded = cv2.copyMakeBorder(picture, *4 * (margin,), cv2.BORDER_REFLECT_101)
    return _correlate(padded.reshape(len(padded), -1), weights.astype(np.uint16)).reshape(picture.shape)


@compiled()
@no_type_check
def _correlate(padded, weights):
    height, width = padded.shape[0] - len(weights) + 1, padded.shape[1] - 3 * (len(weights) - 1)
    correlated = np.empty((height, width), np.uint8)
    total = np.empty(width, np.uint16)
    for row in range(height):
        total[:] = 128
        for i in range(len(weights)):
            for j in range(len(weights)):
                weight = weights[i, j]
                if weight > 0:
                    source = padded[row + i, 3 * j : 3 * j + width]
                    for k in range(width):
                        total[k] += weight * source[k]
        for k in range(width):
            correlated[row, k] = total[k] >> 8
    return correlated


@compiled()
@no_type_check
def _develop(picture, curves, grain, strength):
    height, width = picture.shape[:2]
    developed = np.empty_like(picture)
    toned = np.empty(3 * width, np.float32)
    flat = developed.reshape(height, 3 * width)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                toned[3 * column + channel] = curves[picture[row, column, channel], channel]
        for k in range(3 * width):
            level = toned[k] + strength * np.float32(grain[row, k])
            flat[row, k] = np.uint8(np.int32(min(max(level, np.float32(0)), np.float32(255))))
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
