"""The page on data: its recipes are recipes, its links to files lead to files, and it leaves out no data set."""

import re
from pathlib import Path

import pytest
import yaml

from hamr_lightning.recipe import load_recipe
from hamr_lightning.registry import available

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "data.md"
TEXT = PAGE.read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("section", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_on_the_page_is_one(tmp_path, section):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"extends: {ROOT / 'recipes' / 'full.yaml'}\n{section}")

    assert load_recipe(path).to_dict()["data"].items() >= yaml.safe_load(section)["data"].items()


def test_every_data_set_is_on_the_page():
    assert set(available("dataset")) == set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))


def test_links_to_files_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    headings = {
        "#" + re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert len(links) > 5
    for link in links:
        assert link in headings if link.startswith("#") else (PAGE.parent / link).is_file(), link
