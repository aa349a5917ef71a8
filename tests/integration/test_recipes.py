"""Every recipe that ships takes two steps and comes back from its checkpoint."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from hamr_lightning import load_checkpoint
from hamr_lightning.cli.evaluate import main as evaluate_command
from hamr_lightning.cli.fit import main as fit_command
from hamr_lightning.recipe_source import shipped_recipes
from layouts.stored import SPLITS, write_stored

RECIPES = Path(__file__).parents[2] / "recipes"

TWO_STEPS = [
    "--trainer.max_steps=2",
    "--trainer.limit_val_batches=1",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--data.batch_size=2",
    "--data.workers=0",
]
PAPER_SETS = {"rhd": "RHD_published_v2", "stb": "STB", "dexter_object": "dexter+object"}
FEW_RENDERED = ["--data.count=4", "--data.val_count=2"]
SMALL_NETWORK = [
    "--backbone.depth=2",
    "--backbone.channels=8",
    "--backbone.growth=0",
    "--backbone.heatmaps=21",
    "--regressor.feature_size=8",
    "--regressor.hidden=8",
    "--data.image_size=64",
]
SMALL_PICTURES = ["--data.render_size=64"]
RENDERED = sorted(set(shipped_recipes()) - {"paper"})


def take_two_steps(path, folder, *changes):
    renderer = ["--renderer.size=16"] if "renderer: null" not in path.read_text() else []
    assert fit_command(["--recipe", str(path), "--output", str(folder), *TWO_STEPS, *renderer, *changes]) == 0
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["step"] == 2
    assert figures["model"].keys() == figures["constant"].keys()
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")


def test_every_recipe_of_the_clone_ships():
    paths = {path.resolve() for path in RECIPES.rglob("*.yaml")}
    assert {path.resolve() for path in shipped_recipes().values()} == paths
    assert len(paths) >= 6


@pytest.mark.parametrize("name", RENDERED)
def test_a_recipe_takes_two_steps(name, tmp_path):
    model = take_two_steps(shipped_recipes()[name], tmp_path / "run", *SMALL_NETWORK, *FEW_RENDERED, *SMALL_PICTURES)
    assert model(torch.zeros(1, 3, 64, 64)).joints_3d.shape == (1, 21, 3)


@pytest.mark.filterwarnings("ignore:loss 'seg' is idle")  # the few first batches may be of STB, which has no masks
def test_the_paper_s_recipe_takes_two_steps_on_its_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("HAMR_DATA", str(tmp_path))
    for name, folder in PAPER_SETS.items():
        for split in SPLITS[name]:
            write_stored(name, tmp_path / folder, split)

    take_two_steps(shipped_recipes()["paper"], tmp_path / "run", *SMALL_NETWORK)

    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["model"].keys() == {
        *(f"{name}/{key}" for name in ("rhd", "stb") for key in ("auc_3d", "joint_error_mm")),
        "rhd/miou",
    }
    assert evaluate_command(["--checkpoint", str(tmp_path / "run" / "checkpoints" / "last.ckpt")]) == 0
    reports = tmp_path / "run" / "evaluation" / "last_paper"
    known = {name: set(json.loads((reports / name / "metrics.json").read_text())) for name in PAPER_SETS}
    assert {"auc_3d", "auc_2d", "miou"} <= known["rhd"]
    assert {"auc_3d", "auc_2d"} <= known["stb"]
    assert {"auc_3d_tips", "auc_2d"} <= known["dexter_object"]
    assert "auc_3d" not in known["dexter_object"]
    for name in PAPER_SETS:
        assert {"pck_3d.png", "pck_2d.png"} <= {path.name for path in (reports / name / "figures").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "quickstart"])
def test_its_whole_network_takes_two_steps(name):
    with TemporaryDirectory() as folder:  # pytest would keep its gigabytes
        take_two_steps(shipped_recipes()[name], Path(folder, "run"), *FEW_RENDERED)


def losses(name):
    from hamr_lightning import load_recipe

    return load_recipe(name).to_dict()["losses"]


def test_the_full_recipe_has_the_paper_s_weights():
    weights = {name: arguments["weight"] for name, arguments in losses("full").items()}
    assert weights == {"joints_3d": 1000, "joints_2d": 1, "geo": 1, "cam": 0.1, "heatmap": 100, "seg": 10}


@pytest.mark.parametrize(
    ("name", "removed"), [("no_cam", {"cam"}), ("no_geo", {"geo"}), ("no_seg", {"seg"}), ("no_mesh", {"seg"})]
)
def test_an_ablation_takes_one_thing_away(name, removed):
    assert losses("full").keys() - losses(name).keys() == removed
