"""What stands behind a rendered hand: procedural backgrounds, or the user's photographs."""

import colorsys
import math
from functools import cache
from pathlib import Path
from typing import Final, no_type_check

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from numba import njit

from hamr_lightning.compiled import compiled
from hamr_lightning.data.rendering.lens import soften

PHOTOGRAPH_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_FINE: Final = 1.0
"""Pictures with more blur than this, in pixels, are drawn at half their resolution."""

_SUBPIXEL_BITS: Final = 4

_FIELD: Final = 4
"""How many times larger than a picture the field is of which its noise is taken, along each side."""


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
    return np.array(_random_colours(rng, 1)[0], np.float32)


def _random_colours(rng: np.random.Generator, count: int) -> list[tuple[float, float, float]]:
    hue, saturation, value = rng.random(count), rng.beta(1.2, 2.8, count), rng.uniform(0.08, 0.97, count)
    return list(map(colorsys.hsv_to_rgb, hue.tolist(), saturation.tolist(), value.tolist()))


def procedural_background(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return a picture of gradients, one of several materials, and things scattered over it, in or out of focus."""
    half = _MATERIALS[rng.integers(len(_MATERIALS))](rng, (size + 1) // 2)
    things = int(rng.integers(2, 14)) if rng.random() < 0.75 else 0
    blur = size / 256 * rng.exponential(1.3)
    if blur > _FINE:
        _scatter(rng, half, things)
        return cv2.resize(soften(half, blur / 2), (size, size), interpolation=cv2.INTER_CUBIC)
    picture = cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR)
    _scatter(rng, picture, things)
    return soften(picture, blur) if blur > 0.4 else picture


def octave_noise(rng: np.random.Generator, size: int, finest: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Return noise of about zero mean and unit range: octaves from 4 cells a side to ``finest``, halving as they go.

    It is the sum of two random parts of one large field.
    """
    field = _noise_field(size, finest)
    (top, left), (other_top, other_left) = rng.integers(len(field) - size, size=(2, 2)).tolist()
    one = field[top : top + size, left : left + size]
    return one - field[other_top : other_top + size, other_left : other_left + size][::-1]


@cache
def _noise_field(size: int, finest: int) -> Float32[np.ndarray, "_ _"]:
    """Return a field of :func:`octave_noise`, a few times as large, and by a root of 2 weaker for its sums."""
    rng = np.random.default_rng(finest)
    cells = 4 * _FIELD
    field: np.ndarray = rng.uniform(-1, 1, (cells, cells))
    amplitude = 1.0
    while cells < finest * _FIELD:
        cells, amplitude = 2 * cells, 0.55 * amplitude
        field = cv2.resize(field, (cells, cells), interpolation=cv2.INTER_CUBIC)
        field = field + amplitude * rng.uniform(-1, 1, field.shape)
    whole = cv2.resize(field, (_FIELD * size, _FIELD * size), interpolation=cv2.INTER_CUBIC)
    return (whole / math.sqrt(2)).astype(np.float32)


def _gradient(rng: np.random.Generator) -> Float[np.ndarray, "2 2 3"]:
    """Return the colours of a material at a picture's corners, or near them."""
    return random_colour(rng) + rng.normal(0, 0.12, (2, 2, 1)) + rng.normal(0, 0.05, (2, 2, 3))


def _wall(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s 3"]:
    colours = _gradient(rng)
    return _mix(colours, colours + rng.uniform(0, 0.06), octave_noise(rng, size, 64)[..., None])


def _foliage(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s 3"]:
    finest = int(2 ** rng.integers(3, 7))
    grey = octave_noise(rng, size, finest)
    coloured = [grey + np.float32(0.2) * octave_noise(rng, size, finest // 2) for _ in range(3)]
    colours = _gradient(rng)
    return _mix(colours, colours + rng.uniform(0.05, 0.3), cv2.merge(coloured))


def _marble(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s 3"]:
    share = 0.5 + 0.5 * np.sin(np.float32(rng.uniform(2, 6)) * octave_noise(rng, size, 32))
    return _mix(_gradient(rng), _gradient(rng), share[..., None])


def _wood(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s 3"]:
    across = _ramp(rng, size) * np.float32(rng.uniform(20, 80))
    grain = np.sin(across + 3 * octave_noise(rng, size, 8)) + 0.5 * octave_noise(rng, size, 64)
    colour = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.85))
    plain = np.full((2, 2, 3), colour)
    return _mix(plain, plain * (1 + rng.uniform(0.05, 0.15)), grain[..., None])


def _stripes(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "s s 3"]:
    share = _stripe(rng, size)
    if rng.random() < 0.5:
        share = 0.5 * (share + _stripe(rng, size))
    colours = _gradient(rng)
    return _mix(colours, colours + (rng.normal(0, 0.2) + rng.normal(0, 0.1, 3)), share[..., None])


def _stripe(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s"]:
    phase = _ramp(rng, size) * np.float32(rng.uniform(10, 120))
    return np.clip(0.5 + np.float32(rng.uniform(1, 8)) * np.sin(phase), 0, 1)


_MATERIALS: Final = (_wall, _wall, _foliage, _foliage, _marble, _wood, _stripes)


def _mix(
    one: Float[np.ndarray, "2 2 3"], other: Float[np.ndarray, "2 2 3"], share: Float32[np.ndarray, "s s c"]
) -> UInt8[np.ndarray, "s s 3"]:
    """Return ``(1 - share) * one + share * other`` in bytes, where two gradients are given at the picture's quarters.

    The share has one channel or three.
    """
    return _mix_bytes((255 * one).astype(np.float32), (255 * (other - one)).astype(np.float32), share)


@compiled()
@no_type_check
def _mix_bytes(colours, changes, share):
    height, width, channels = share.shape
    picture = np.empty((height, width, 3), np.uint8)
    flat = picture.reshape(height, 3 * width)
    upper_colours, lower_colours = _between(colours[0], width), _between(colours[1], width)
    upper_changes, lower_changes = _between(changes[0], width), _between(changes[1], width)
    parts = np.empty(3 * width, np.float32)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                parts[3 * column + channel] = share[row, column, min(channel, channels - 1)]
        down = _share_along(row, height)
        for k in range(3 * width):
            colour = upper_colours[k] + down * (lower_colours[k] - upper_colours[k])
            change = upper_changes[k] + down * (lower_changes[k] - upper_changes[k])
            level = min(max(colour + parts[k] * change, np.float32(0)), np.float32(255))
            flat[row, k] = np.uint8(np.int32(level))
    return picture


@compiled()
@no_type_check
def _between(ends, count):
    """Interpolate a row of pixels."""
    row = np.empty(3 * count, np.float32)
    for column in range(count):
        share = _share_along(column, count)
        for channel in range(3):
            row[3 * column + channel] = ends[0, channel] + share * (ends[1, channel] - ends[0, channel])
    return row


@njit(nogil=True, inline="always")
@no_type_check
def _share_along(pixel, count):
    return np.float32(min(max((2 * pixel + 1) / count - 0.5, 0.0), 1.0))


def _ramp(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "s s"]:
    """A coordinate that grows by about 1 across the picture, in a random direction."""
    angle = rng.uniform(0, np.pi)
    along = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return np.float32(np.cos(angle)) * along + np.float32(np.sin(angle)) * along[:, None]


def _scatter(rng: np.random.Generator, picture: UInt8[np.ndarray, "s s 3"], count: int) -> None:
    """Draw polygons, ellipses and lines of random colours, largest first."""
    unit = len(picture) << _SUBPIXEL_BITS
    extents = np.sort(rng.uniform(0.04, 0.6, count))[::-1].tolist()
    kinds, corner_counts = rng.integers(4, size=count).tolist(), rng.integers(3, 7, size=count).tolist()
    places = (unit * rng.uniform(-0.1, 1.1, (count, 2))).tolist()
    colours = [(255 * red, 255 * green, 255 * blue) for red, green, blue in _random_colours(rng, count)]
    angles = (2 * np.pi * rng.random((count, 6))).tolist()
    for i, (x, y) in enumerate(places):
        reach = extents[i] * unit
        if kinds[i] == 0:
            axes = int(reach / 2), int(reach * rng.uniform(0.15, 0.5))
            turn = math.degrees(angles[i][0])
            cv2.ellipse(picture, (int(x), int(y)), axes, turn, 0, 360, colours[i], -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        elif kinds[i] == 1:
            end = int(rng.normal(x, unit)), int(rng.normal(y, unit))
            thickness = max(round(len(picture) * (1 / 256 + 0.1 * extents[i])), 1)
            cv2.line(picture, (int(x), int(y)), end, colours[i], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            spokes = sorted(angles[i][: corner_counts[i]])
            corners = [(x + 0.6 * reach * math.cos(spoke), y + 0.6 * reach * math.sin(spoke)) for spoke in spokes]
            cv2.fillPoly(picture, [np.array(corners, np.int32)], colours[i], cv2.LINE_AA, _SUBPIXEL_BITS)
