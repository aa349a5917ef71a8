"""Files that are there whole or not at all."""

import pytest

from hamr_lightning.atomic import written_whole


def test_a_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for content in ("one", "two"):
        with written_whole(path) as file:
            file.write_text(content)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == content
    assert [*path.parent.iterdir()] == [path]


def test_after_an_error_what_was_there_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with written_whole(path) as file:
            file.write_text("ne")
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        fail()
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"
