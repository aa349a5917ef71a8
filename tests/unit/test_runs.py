"""A run's folder: names, the metrics file."""

import csv
import os
import subprocess
import sys

import pytest

import hamr_lightning as hl
from hamr_lightning import runs
from hamr_lightning.runs import MetricsFile
from small_recipe import SMALL_RECIPE


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def runs_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_a_new_folder_is_free_and_not_made(runs_here):
    first = runs.new_folder("full")
    assert not runs_here.exists()
    first.mkdir(parents=True)
    second = runs.new_folder("full")
    assert second != first
    assert second.parent == first.parent == runs.RUNS / "full"


def test_the_last_checkpoint_is_the_newest_of_the_recipe_s_runs(runs_here):
    assert runs.last_checkpoint("full") is None
    for age, name in ((3, "full/b"), (1, "full/a"), (0, "other/c")):
        path = runs_here / name / runs.LAST
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (runs_here / "full" / "without").mkdir()
    assert runs.last_checkpoint("full") == runs.RUNS / "full/a" / runs.LAST


def test_metrics_are_appended_and_new_ones_widen_the_table(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"train/loss": 2.0}, step=0)
    file.log_metrics({"train/loss": 1.0}, step=1)
    file.log_metrics({"val/loss": 3.0}, step=1)
    file.log_metrics({"train/loss": 0.5}, step=2)
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "0", "train/loss": "2.0", "val/loss": ""},
        {"step": "1", "train/loss": "1.0", "val/loss": ""},
        {"step": "1", "train/loss": "", "val/loss": "3.0"},
        {"step": "2", "train/loss": "0.5", "val/loss": ""},
    ]


def test_a_resumed_run_goes_on_with_the_table_from_its_checkpoint(tmp_path):
    first = MetricsFile(tmp_path)
    for step in range(6):
        first.log_metrics({"train/loss": float(step)}, step=step)
    resumed = MetricsFile(tmp_path)
    resumed.log_metrics({"train/loss": 10.0}, step=4)
    resumed.log_metrics({"val/loss": 1.0}, step=4)
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["0", "1", "2", "3", "4", "4"]
    assert [row["train/loss"] for row in rows(tmp_path / "metrics.csv")][-2:] == ["10.0", ""]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # of torch's compiler itself
@pytest.mark.parametrize("chosen", [True, False])
def test_compilation_replaces_the_network_s_calls_only_when_asked_to(tmp_path, chosen):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RECIPE)
    recipe = hl.load_recipe(path, [f"trainer.compile={str(chosen).lower()}"])
    model, trainer = recipe.build_model(), recipe.build_trainer(tmp_path / "run")
    (compilation,) = (callback for callback in trainer.callbacks if isinstance(callback, runs.Compilation))
    names = list(model.state_dict())
    compilation.setup(trainer, model, "fit")
    compiled = [name for name, part in model.named_children() if part._compiled_call_impl is not None]
    assert compiled == (["backbone", "regressor"] if chosen else [])
    assert list(model.state_dict()) == names


COMPILATION_SCRIPT = """
import sys
import torch
import hamr_lightning as hl

recipe = hl.load_recipe(sys.argv[1], ["backbone.activation_checkpointing=" + sys.argv[2]])
images, gradients = torch.rand(2, 3, 64, 64), []
for backend in (None, "aot_eager"):
    torch.manual_seed(0)
    model = recipe.build_model()
    for part in (model.backbone, model.regressor, model.decoder):
        if backend is not None:
            part.compile(backend=backend, fullgraph=True)
    out = model(images)
    (out.vertices.sum() + out.silhouette.sum() + out.heatmaps.square().sum()).backward()
    gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
assert (gradients[1] - gradients[0]).norm() < 1e-5 * gradients[0].norm()
"""
"""In a process of its own: the tests' checks of annotations cannot be compiled."""


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_the_network_s_parts_compile_whole_and_give_the_same(tmp_path, checkpointing):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RECIPE)
    subprocess.run([sys.executable, "-c", COMPILATION_SCRIPT, path, checkpointing], check=True)
