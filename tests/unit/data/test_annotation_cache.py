"""The annotation cache: decoded once, mapped, and never in the way."""

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from hamr_lightning.data.annotation_cache import MappedArrays, cached_annotation

ARRAYS = {
    "xyz": np.arange(24, dtype=np.float32).reshape(4, 2, 3),
    "names": np.array(["a", "longer", "ß"]),
    "none": np.zeros((0, 3)),
    "count": np.array(7),
}


class Decoder:
    def __init__(self, arrays=ARRAYS):
        self.arrays, self.calls = arrays, 0

    def __call__(self):
        self.calls += 1
        return self.arrays


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HAMR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "annotation.json"
    path.write_text("12345")
    return path


def check(arrays):
    assert set(arrays) == set(ARRAYS)
    assert len(arrays) == len(ARRAYS)
    for name, expected in ARRAYS.items():
        assert type(arrays[name]) is np.ndarray
        np.testing.assert_array_equal(arrays[name], expected)


def test_it_decodes_once_and_gives_read_only_arrays(cache, source):
    decode = Decoder()
    for _ in range(3):
        arrays = cached_annotation("set-1", [source], decode)
        check(arrays)
        with pytest.raises(ValueError, match="read-only"):
            arrays["xyz"][0] = 1
    assert decode.calls == 1
    assert not list(cache.glob(".unfinished*"))


def test_another_size_time_name_or_file_is_decoded_anew(cache, source, tmp_path):
    decode = Decoder()
    cached_annotation("set-1", [source], decode)
    status = source.stat()
    source.write_text("123456")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    cached_annotation("set-1", [source], decode)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cached_annotation("set-1", [source], decode)
    cached_annotation("set-2", [source], decode)
    (tmp_path / "other").write_text("123456")
    cached_annotation("set-1", [source, tmp_path / "other"], decode)
    assert decode.calls == 5


def test_what_decode_raises_comes_out_and_leaves_nothing(cache, source, tmp_path):
    def refuse():
        raise ValueError("annotation.json is broken")

    for files in ([source], [tmp_path / "gone"]):
        with pytest.raises(ValueError, match=r"annotation\.json is broken") as raised:
            cached_annotation("set-1", files, refuse)
        assert raised.value.__context__ is None
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:60]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'shape'", b"(((((((")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'|O' ")),
        lambda path: path.unlink(),
        lambda path: (path.parent / "arrays.txt").unlink(),
    ],
)
def test_a_damaged_entry_is_decoded_anew(cache, source, damage):
    decode = Decoder()
    cached_annotation("set-1", [source], decode)
    (entry,) = cache.glob("set-1-*")
    damage(entry / "xyz.npy")
    check(cached_annotation("set-1", [source], decode))
    check(cached_annotation("set-1", [source], decode))
    assert decode.calls == 2


def test_pickling_keeps_the_map_and_not_the_arrays(cache, source):
    large = {"xyz": np.random.default_rng(0).random((1000, 21, 3))}
    arrays = cached_annotation("set-1", [source], lambda: large)
    content = pickle.dumps(arrays)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content)["xyz"], large["xyz"])


def test_many_at_once_agree(cache, source):
    together = Barrier(8)

    def decode():
        together.wait(10)
        return ARRAYS

    with ThreadPoolExecutor(8) as pool:
        for arrays in pool.map(lambda _: cached_annotation("set-1", [source], decode), range(8)):
            check(arrays)
            check(pickle.loads(pickle.dumps(arrays)))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache"])
def test_where_the_cache_cannot_be_written_it_says_so_and_goes_on(source, monkeypatch, place):
    monkeypatch.setenv("HAMR_CACHE", place)
    with pytest.warns(
        RuntimeWarning, match="annotation is not cached, every start decodes it again: .*; set HAMR_CACHE"
    ):
        check(cached_annotation("set-1", [source], lambda: ARRAYS))


def test_without_a_home_it_says_so_and_goes_on(source, monkeypatch):
    for name in ("HAMR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "~")
    with pytest.warns(RuntimeWarning, match="annotation is not cached"):
        check(cached_annotation("set-1", [source], lambda: ARRAYS))


def test_a_full_disk_says_so_leaves_nothing_and_goes_on(cache, source):
    code = f"""
import resource, signal, sys, warnings
from pathlib import Path
import numpy as np
from hamr_lightning.data.annotation_cache import cached_annotation
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    arrays = cached_annotation("set-1", [Path({str(source)!r})], lambda: {{"small": np.ones(3), "x": np.ones(10_000)}})
assert arrays["x"].sum() == 10_000
assert "annotation is not cached" in str(caught[0].message), caught
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not list(cache.iterdir())


def test_an_array_of_objects_is_no_annotation_and_leaves_nothing(cache, source):
    with pytest.raises(ValueError, match="Object arrays"):
        cached_annotation("set-1", [source], lambda: {"x": np.array([object()])})
    assert not list(cache.iterdir())


def test_outdated_entries_go_when_nothing_can_use_them_any_more(cache, source):
    (cached_annotation("set-1", [source], lambda: ARRAYS), cached_annotation("set-10", [source], lambda: ARRAYS))
    (first,) = cache.glob("set-1-*")
    source.write_text("second")
    cached_annotation("set-1", [source], lambda: ARRAYS)
    check(MappedArrays(first))

    month_ago = time.time() - 30 * 24 * 3600
    for entry in cache.iterdir():
        os.utime(entry, (month_ago, month_ago))
    source.write_text("the third")
    cached_annotation("set-1", [source], lambda: ARRAYS)
    assert len(list(cache.glob("set-1-*"))) == 1
    assert len(list(cache.glob("set-10-*"))) == 1


def test_a_relative_cache_is_found_from_other_folders(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HAMR_CACHE", "near")
    content = pickle.dumps(cached_annotation("set-1", [source], lambda: ARRAYS))
    monkeypatch.chdir("/")
    check(pickle.loads(content))
