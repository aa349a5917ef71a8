"""A small recipe in an empty working folder."""

import pytest

from small_recipe import SMALL_RECIPE


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL_RECIPE)
    return "small.yaml"
