"""What a camera does to a picture: blur, exposure, white balance, contrast and noise."""

from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_GRAIN_SIDE: Final = 512


class Lens:
    """Photographs pictures with small faults, as random as the generator that is handed over."""

    def __init__(self) -> None:
        white = np.random.default_rng(0).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3)).astype(np.float32)
        grain = cv2.GaussianBlur(white, (0, 0), 0.5)
        self._grain: Float32[np.ndarray, "g g 3"] = grain / grain.std()

    def photograph(self, picture: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
        """Return the picture as a camera gives it."""
        scale = len(picture) / 256
        defocus = scale * rng.exponential(0.4)
        if defocus > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), defocus)
        if rng.random() < 0.15:
            picture = cv2.filter2D(picture, -1, _streak(rng.uniform(2, 7) * scale, rng.uniform(0, np.pi)))
        return self._add_grain(cv2.LUT(picture, _tone_curves(rng)), rng)

    def _add_grain(self, picture: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
        size = len(picture)
        strength = np.float32(rng.exponential(3.0))
        rows, columns = (rng.integers(_GRAIN_SIDE, size=2)[:, None] + np.arange(size)) % _GRAIN_SIDE
        grainy = self._grain[rows[:, None], columns]
        grainy *= strength
        grainy += picture
        return np.clip(grainy, 0, 255, out=grainy).astype(np.uint8)


def _streak(length: float, angle: float) -> Float32[np.ndarray, "k k"]:
    """Return the kernel of a straight motion."""
    side = 2 * int(length / 2 + 1) + 1
    middle = side / 2
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    fine = np.zeros((8 * side, 8 * side), np.float32)
    ends = [tuple((8 * (middle + sign * reach)).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(fine, *ends, 1.0, 8)
    kernel = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return kernel / kernel.sum()


def _tone_curves(rng: np.random.Generator) -> UInt8[np.ndarray, "256 1 3"]:
    """Return a curve for each channel: exposure, white balance and contrast."""
    gain = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.04, 3))
    gamma = np.exp(rng.normal(0, 0.12))
    level = np.linspace(0, 1, 256)[:, None, None] ** gamma * gain
    return np.clip(255 * level, 0, 255).astype(np.uint8)
