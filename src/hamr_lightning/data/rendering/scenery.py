"""What stands behind a rendered hand: procedural backgrounds, or the user's photographs."""

import colorsys
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

PHOTOGRAPH_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class Photographs:
    """Random crops of the photographs in a folder and its sub-folders.

    Raises:
        ValueError: If ``folder`` is not a folder or holds no photograph.
    """

    def __init__(self, folder: str) -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"backgrounds: {folder!r} is not a folder; give one that holds photographs, or null")
        self._files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES)
        if not self._files:
            known = ", ".join(sorted(PHOTOGRAPH_SUFFIXES))
            raise ValueError(f"backgrounds: no photograph ({known}) in {folder!r}; add some, or give null")

    def crop(self, rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
        """Return a random square of a random photograph, mirrored at random.

        Raises:
            ValueError: If the file cannot be read as a picture.
        """
        file = self._files[rng.integers(len(self._files))]
        picture = cv2.imread(str(file))
        if picture is None:
            raise ValueError(f"backgrounds: {str(file)!r} cannot be read as a picture; mend or remove it")
        height, width = picture.shape[:2]
        side = max(1, int(min(height, width) * rng.uniform(0.4, 1)))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        square = picture[top : top + side, left : left + side]
        resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
        step = -1 if rng.random() < 0.5 else 1
        return np.ascontiguousarray(resized[:, ::step, ::-1])


def random_colour(rng: np.random.Generator) -> Float32[np.ndarray, "3"]:
    """Return an RGB colour in [0, 1], more often dull than vivid."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.2, 2.8), rng.uniform(0.08, 0.97)), np.float32)


def procedural_background(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return a picture of gradients, one of several materials, and things scattered over it, in or out of focus."""
    material = _MATERIALS[rng.integers(len(_MATERIALS))]
    half = np.clip(material(rng, (size + 1) // 2) * 255, 0, 255).astype(np.uint8)
    picture = cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.75:
        _scatter(rng, picture)
    blur = size / 256 * rng.exponential(1.3)
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.4 else picture


def octave_noise(
    rng: np.random.Generator, size: int, finest: int, channels: int
) -> Float32[np.ndarray, "{size} {size} {channels}"]:
    """Return noise of about zero mean and unit range: octaves from 4 cells a side to ``finest``, halving as they go."""
    cells = 4
    field: np.ndarray = rng.uniform(-1, 1, (cells, cells, channels)).astype(np.float32)
    amplitude = 1.0
    while cells < finest:
        cells, amplitude = 2 * cells, 0.55 * amplitude
        field = cv2.resize(field, (cells, cells), interpolation=cv2.INTER_CUBIC).reshape(cells, cells, channels)
        field = field + amplitude * rng.uniform(-1, 1, field.shape).astype(np.float32)
    return cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)


def _gradient(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    corners = random_colour(rng) + rng.normal(0, 0.12, (2, 2, 1)) + rng.normal(0, 0.05, (2, 2, 3))
    return cv2.resize(corners.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def _wall(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    return _gradient(rng, size) + np.float32(rng.uniform(0, 0.06)) * octave_noise(rng, size, 64, 1)


def _foliage(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    finest = int(2 ** rng.integers(3, 7))
    noise = octave_noise(rng, size, finest, 1) + 0.2 * octave_noise(rng, size, finest // 2, 3)
    return _gradient(rng, size) + np.float32(rng.uniform(0.05, 0.3)) * noise


def _marble(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    share = 0.5 + 0.5 * np.sin(np.float32(rng.uniform(2, 6)) * octave_noise(rng, size, 32, 1))
    return _gradient(rng, size) * (1 - share) + _gradient(rng, size) * share


def _wood(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    across = _ramp(rng, size)[..., None] * np.float32(rng.uniform(20, 80))
    grain = np.sin(across + 3 * octave_noise(rng, size, 8, 1)) + 0.5 * octave_noise(rng, size, 64, 1)
    colour = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.85))
    return np.array(colour, np.float32) * (1 + np.float32(rng.uniform(0.05, 0.15)) * grain)


def _stripes(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s 3"]:
    share = _stripe(rng, size)
    if rng.random() < 0.5:
        share = 0.5 * (share + _stripe(rng, size))
    return _gradient(rng, size) + share[..., None] * (rng.normal(0, 0.2) + rng.normal(0, 0.1, 3)).astype(np.float32)


def _stripe(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s"]:
    phase = _ramp(rng, size) * np.float32(rng.uniform(10, 120))
    return np.clip(0.5 + np.float32(rng.uniform(1, 8)) * np.sin(phase), 0, 1)


_MATERIALS: Final = (_wall, _wall, _foliage, _foliage, _marble, _wood, _stripes)


def _ramp(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s"]:
    """A coordinate that grows by about 1 across the picture, in a random direction."""
    angle = rng.uniform(0, np.pi)
    along = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return np.float32(np.cos(angle)) * along + np.float32(np.sin(angle)) * along[:, None]


def _scatter(rng: np.random.Generator, picture: UInt8[np.ndarray, "s s 3"]) -> None:
    """Draw polygons, ellipses and lines of random colours, largest first."""
    size = len(picture)
    extents = np.sort(rng.uniform(0.04, 0.6, rng.integers(2, 14)))[::-1] * size
    for extent in extents:
        colour = (255 * random_colour(rng)).tolist()
        centre = rng.uniform(-0.1, 1.1, 2) * size
        kind = rng.integers(4)
        if kind == 0:
            angle = rng.uniform(0, 360)
            axes = (int(extent / 2), int(extent * rng.uniform(0.15, 0.5)))
            cv2.ellipse(picture, centre.astype(int).tolist(), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            end = centre + rng.normal(0, size, 2)
            thickness = int(1 + extent * 0.1)
            cv2.line(picture, centre.astype(int).tolist(), end.astype(int).tolist(), colour, thickness, cv2.LINE_AA)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1) * extent * 0.6
            cv2.fillPoly(picture, [(centre + spokes).astype(np.int32)], colour, cv2.LINE_AA)
