"""Reading files: what the standard library says, and every failure names the file."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamr_lightning.data.files import read_grey, read_json, read_json_list, read_photograph, read_rgb, resolve_root

FINITE = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    FINITE | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


def read_whole_list(path):
    return list(read_json_list(path))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "file"


def png(width, height):
    """Return a PNG that declares a size, and has one row of it."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(b"\0" * (1 + 3 * min(width, 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def test_a_root_is_expanded_as_in_a_shell(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETS", str(tmp_path))
    for root in ("~/set", "$SETS/set", "${SETS}/set", tmp_path / "set"):
        assert resolve_root(root) == tmp_path / "set"


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("gone", "^gone is no folder; root must name"),
        ("$HAMR_UNSET/set", r"set the environment variable \$HAMR_UNSET"),
        ("${HAMR_UNSET}/set", r"set the environment variable \$\{HAMR_UNSET\}"),
        ("~nobody_here/set", "is no folder"),
        ("x" * 5000, "is no folder"),
        ("a\0b", "is no folder"),
    ],
)
def test_a_root_that_is_no_folder(root, message):
    with pytest.raises(ValueError, match=message):
        resolve_root(root)


def test_a_picture_of_another_size_than_must_be_is_refused(tmp_path):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))

    assert read_rgb(path, (6, 4)).shape == (4, 6, 3)
    with pytest.raises(ValueError, match=r"picture\.png must have 4 x 6 pixels, got 6 x 4; unpack"):
        read_rgb(path, (4, 6))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_come_back(tmp_path, suffix):
    colour, grey = np.full((4, 6, 3), (250, 128, 5), np.uint8), np.full((4, 6), 77, np.uint8)
    cv2.imwrite(str(tmp_path / f"colour{suffix}"), colour[..., ::-1])
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), grey)

    np.testing.assert_allclose(read_rgb(tmp_path / f"colour{suffix}"), colour, atol=3)
    np.testing.assert_allclose(read_grey(tmp_path / f"grey{suffix}"), grey, atol=1)
    np.testing.assert_allclose(read_photograph(tmp_path / f"colour{suffix}"), colour, atol=3)
    np.testing.assert_allclose(read_photograph(tmp_path / f"grey{suffix}"), np.stack([grey] * 3, axis=2), atol=1)
    with pytest.raises(ValueError, match=rf"grey{suffix} must be an RGB picture of 8 bits, got shape \(4, 6\)"):
        read_rgb(tmp_path / f"grey{suffix}")
    with pytest.raises(ValueError, match=rf"colour{suffix} must be a grey picture of 8 bits, got shape \(4, 6, 3\)"):
        read_grey(tmp_path / f"colour{suffix}")


@pytest.mark.parametrize("picture", [np.zeros((4, 6, 3), np.uint16), np.zeros((4, 6, 4), np.uint8)])
def test_other_kinds_of_picture_are_refused_or_made_rgb(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    with pytest.raises(ValueError, match="must be an RGB picture of 8 bits"):
        read_rgb(tmp_path / "x.png")
    assert read_photograph(tmp_path / "x.png").shape == (4, 6, 3)


@pytest.mark.parametrize("read", [read_rgb, read_grey, read_photograph])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8\xff", b"no picture", png(2**31 - 1, 2**31 - 1), png(100_000, 100_000), png(30_000, 30_000)],
)
def test_a_broken_picture_is_named_and_costs_no_memory(file, read, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match="file is broken, it cannot be read as a picture; unpack it again"):
        read(file)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_that_is_cut_off_is_refused_whatever_the_decoder_makes_of_it(file, monkeypatch, suffix):
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    thumbnail = b"\xff\xda..\xff\xd9"  # a JPEG has one in its header
    whole = cv2.imencode(suffix, picture)[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda content, mode: picture)
    file.write_bytes(whole + b"trailer")
    assert read_rgb(file).shape == picture.shape
    for kept in (len(whole) // 2, len(whole) - 12):
        file.write_bytes(whole[:2] + thumbnail * (suffix == ".jpg") + whole[2:kept])
        with pytest.raises(ValueError, match="file is broken"):
            read_rgb(file)


@pytest.mark.parametrize("read", [read_rgb, read_grey, read_photograph, read_json, read_whole_list])
def test_a_missing_file_and_a_folder_are_named(tmp_path, read):
    with pytest.raises(ValueError, match="gone is missing; unpack it again"):
        read(tmp_path / "gone")
    with pytest.raises(ValueError, match=f"{tmp_path.name} cannot be read: Is a directory"):
        read(tmp_path)


@given(value=VALUES, indent=st.sampled_from([None, 0, 3]))
def test_json_is_read_as_the_standard_library_reads_it(file, value, indent):
    file.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    assert read_json(file) == value
    if isinstance(value, list):
        assert list(read_json_list(file)) == value
    else:
        with pytest.raises(ValueError, match=r"file is not a JSON list of finite numbers: expected '\['"):
            list(read_json_list(file))


@given(text=st.text(alphabet='[]{},:"1e9.- \n\ta\\') | st.lists(VALUES).map(json.dumps), cut=st.integers(0, 30))
def test_what_the_standard_library_refuses_is_refused(file, text, cut):
    text = f"[{text[: len(text) - cut]}"
    file.write_text(text, encoding="utf-8")
    try:
        expected = json.loads(text)
        json.dumps(expected, allow_nan=False)
    except ValueError:
        for read in (read_json, read_whole_list):
            with pytest.raises(ValueError, match="file is not"):
                read(file)
    else:
        assert len(list(read_json_list(file))) == len(expected)


@pytest.mark.parametrize(
    "content",
    [
        b"[1, NaN]",
        b"[Infinity]",
        b"[1, [-Infinity]]",
        b"[1e999]",
        b"[-1e999]",
        b"[" + b"9" * 400 + b"]",
        b"[" + b"9" * 9000 + b"]",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[1] 2",
        b"[1] ]",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[",
        b"",
        b"\xff\xfe[1]",
        b'["\xe9"]',
    ],
)
def test_hostile_json_is_a_message(file, content):
    file.write_bytes(content)
    for read in (read_json, read_whole_list):
        with pytest.raises(ValueError, match="file is not"):
            read(file)


def test_a_byte_order_mark_is_no_mistake(file):
    file.write_text("[1]", encoding="utf-8-sig")
    assert read_json(file) == list(read_json_list(file)) == [1]


def test_entries_come_before_a_mistake_further_on(file):
    file.write_text('[{"a": 1}, 2, oops]', encoding="utf-8")
    entries = read_json_list(file)
    assert [next(entries), next(entries)] == [{"a": 1}, 2]
    with pytest.raises(ValueError, match="file is not a JSON list"):
        next(entries)
