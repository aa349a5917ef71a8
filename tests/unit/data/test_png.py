"""The PNG decoder against OpenCV's, on files whose every line has a filter of its own."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from hamr_lightning.data import png
from hamr_lightning.data.png import decode_png


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def filtered(image, kinds):
    """What the specification's filters leave of each line."""
    rows = image.reshape(len(image), -1).astype(int)
    channels = rows.shape[1] // image.shape[1]
    above = np.vstack([0 * rows[:1], rows[:-1]])
    left, corner = (np.hstack([np.zeros((len(rows), channels), int), x[:, :-channels]]) for x in (rows, above))
    nearest = np.stack([left, above, corner])
    distance = np.abs(nearest - (left + above - corner))
    paeth = np.take_along_axis(nearest, distance.argmin(axis=0)[None], axis=0)[0]
    guesses = np.stack([0 * rows, left, above, (left + above) // 2, paeth, 0 * rows])
    lines = (rows - guesses[kinds, np.arange(len(rows))]) % 256
    return np.column_stack([kinds, lines]).astype(np.uint8)


def encode(image, kinds=None, header=(8, None, 0, 0, 0), extra=b"", parts=1):
    kinds = np.random.default_rng(1).integers(0, 5, len(image)) if kinds is None else np.full(len(image), kinds)
    depth, colour, *others = header
    colour = (0 if image.ndim == 2 else 2) if colour is None else colour
    data = zlib.compress(filtered(image, kinds).tobytes())
    pieces = [data[len(data) * i // parts : len(data) * (i + 1) // parts] for i in range(parts)]
    form = struct.pack(">IIBBBBB", image.shape[1], len(image), depth, colour, *others)
    body = chunk(b"IHDR", form) + extra + b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def picture(*shape, seed=0):
    """Smooth, so that every filter's guess is near, with noise and jumps."""
    generator = np.random.default_rng(seed)
    smooth = generator.integers(-3, 4, shape).cumsum(axis=1) + 128
    return np.where(generator.random(shape) < 0.1, generator.integers(0, 256, shape), smooth).astype(np.uint8)


def by_opencv(content):
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[..., ::-1] if image.ndim == 3 else image


@pytest.mark.parametrize("kinds", [None, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(40, 30, 3), (40, 30), (1, 1), (1, 1, 3), (2, 1, 3), (1, 7)])
def test_every_filter_is_undone(shape, kinds):
    image = picture(*shape)
    content = encode(image, kinds)

    np.testing.assert_array_equal(by_opencv(content), image)
    np.testing.assert_array_equal(decode_png(content), image)


def test_data_may_come_in_pieces_and_beside_text():
    image = picture(20, 20, 3)

    np.testing.assert_array_equal(decode_png(encode(image, extra=chunk(b"tEXt", b"a\0b"), parts=3)), image)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_PNG_COMPRESSION, 9], [cv2.IMWRITE_PNG_COMPRESSION, 0]])
@pytest.mark.parametrize("shape", [(50, 60, 3), (50, 60)])
def test_what_opencv_writes_is_read(shape, options):
    image = picture(*shape)
    written = image if image.ndim == 2 else image[..., ::-1]

    np.testing.assert_array_equal(decode_png(cv2.imencode(".png", written, options)[1].tobytes()), image)


def test_the_branchless_guess_is_paeth_s():
    left, above, corner = np.mgrid[0:256:5, 0:256:3, 0:256]
    nearest = np.stack([left, above, corner])
    expected = np.take_along_axis(nearest, np.abs(nearest - (left + above - corner)).argmin(axis=0)[None], axis=0)[0]
    guess = np.vectorize(png._paeth.py_func, otypes=[int])
    some = np.random.default_rng(0).integers(0, expected.size, 100_000)
    picked = [x.ravel()[some] for x in (left, above, corner)]

    np.testing.assert_array_equal(guess(*picked), expected.ravel()[some])


GOOD = encode(picture(20, 20, 3))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8 a JPEG",
        GOOD[:-12],
        GOOD[: len(GOOD) // 2],
        GOOD[:100] + bytes([GOOD[100] ^ 1]) + GOOD[101:],
        encode(picture(20, 20, 3), 5),
        encode(picture(20, 20), header=(8, 3, 0, 0, 0)),
        encode(picture(20, 20), header=(4, 0, 0, 0, 0)),
        encode(picture(20, 20, 3), header=(8, 2, 0, 0, 1)),
        encode(picture(20, 20, 3), extra=chunk(b"tRNS", bytes(6))),
        encode(picture(20, 20, 3), header=(8, 0, 0, 0, 0)),
        GOOD[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)) + GOOD[33:],
        GOOD[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 20, 8, 2, 0, 0, 0)) + GOOD[33:],
        GOOD[:8] + chunk(b"IHDR", b"") + GOOD[33:],
        GOOD[:8] + GOOD[-12:],
    ],
    ids=[
        "empty", "JPEG", "no end", "cut off", "damaged", "unknown filter", "palette", "4 bits", "interlaced",
        "transparent", "other size", "absurd size", "no width", "no header", "no data",
    ],
)  # fmt: skip
def test_what_is_not_plain_and_whole_is_left_to_others(content):
    assert decode_png(content) is None


def test_a_header_elsewhere_or_twice_is_left_to_opencv():
    content = encode(np.zeros((4, 4, 3), np.uint8))
    header = content[8:33]
    assert decode_png(content) is not None
    assert decode_png(content[:8] + chunk(b"tEXt", header[8:21]) + content[33:]) is None
    assert decode_png(content[:33] + header + content[33:]) is None
