"""Recipes that change one thing, applied to another recipe than the one they extend."""

import pytest

from hamr_lightning import RecipeError, load_recipe
from hamr_lightning.recipe import load_variant, override
from hamr_lightning.recipe_source import shipped_recipes
from small_recipe import SMALL_RECIPE

ABLATIONS = [name for name in shipped_recipes() if name.startswith("ablations/")]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def base(write):
    losses = "losses:\n  cam: {weight: 0.3}\n  geo: {}\n"
    return load_recipe(write("small.yaml", SMALL_RECIPE.replace("losses:\n", losses)), ["data.count=6"])


def changed(base, variant):
    one, other = base.to_dict(), variant.to_dict()
    return {section: other.get(section) for section in other if one.get(section) != other[section]}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("no_cam", {"losses": ["geo", "joints_3d", "seg"]}),
        ("no_geo", {"losses": ["cam", "joints_3d", "seg"]}),
        ("no_seg", {"losses": ["cam", "geo", "joints_3d"], "renderer": None}),
        ("no_mesh", {"losses": ["cam", "geo", "joints_3d"], "renderer": None, "decoder": {"name": "joints"}}),
    ],
)
def test_the_shipped_ablations_are_of_any_recipe(base, name, changes):
    variant = load_variant(base, name)
    found = changed(base, variant)
    assert found.pop("name") == variant.name == name
    found["losses"] = sorted(found["losses"])
    assert found == changes
    variant.build_model()


def test_every_shipped_ablation_is_tested():
    assert sorted(ABLATIONS) == [f"ablations/{name}" for name in ("no_cam", "no_geo", "no_mesh", "no_seg")]


def test_of_a_chain_all_but_the_last_is_a_change(base, write):
    write("origin.yaml", SMALL_RECIPE.replace("seed: 3", "seed: 9"))
    write("middle.yaml", "extends: origin.yaml\nname: between\nlosses: {seg: null}\nrenderer: null\n")
    variant = load_variant(base, write("last.yaml", "extends: middle.yaml\nlosses: {cam: {weight: 2}}\n"))

    assert changed(base, variant) == {
        "name": "last",  # not what the middle calls itself
        "losses": {"cam": {"weight": 2}, "geo": {}, "joints_3d": {"weight": 10}},
        "renderer": None,
    }


def test_a_recipe_that_extends_none_is_itself(base, write):
    whole = write("whole.yaml", SMALL_RECIPE.replace("name: small\n", ""))
    assert load_variant(base, whole).to_dict() == load_recipe(whole).to_dict()
    assert load_variant(base, whole).name == "whole"


def test_the_base_stays_as_it_is(base):
    before = base.to_dict()
    load_variant(base, "no_mesh")
    assert base.to_dict() == before
    assert override(base, []).to_dict() == before


def test_a_mistake_names_the_file_that_it_is_in(base, write):
    variant = write("wrong.yaml", "extends: small.yaml\nlosses:\n  cam: {wieght: 2}\n")
    with pytest.raises(RecipeError, match=r"wrong\.yaml:3: losses\.cam\.wieght"):
        load_variant(base, variant)
    with pytest.raises(RecipeError, match="no such file, and no recipe of that name ships; did you mean"):
        load_variant(base, "ablations/no_gep")
