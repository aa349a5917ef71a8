"""A run from beginning to end: what it leaves, how it stops, and that a resumed one is as one never stopped."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import pytorch_lightning as pl
import torch

from hamr_lightning import load_checkpoint, load_recipe
from hamr_lightning.baseline import Constant
from hamr_lightning.checkpoint import read_checkpoint
from hamr_lightning.cli.fit import main as fit_command
from hamr_lightning.data.synthetic import SyntheticDataset
from hamr_lightning.fit import FIGURES
from hamr_lightning.module import HAMRModule
from small_recipe import SMALL_RECIPE

STEPS_AN_EPOCH = 4


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL_RECIPE)
    return "small.yaml"


@contextmanager
def watched(hook="training_step", at=None, signum=None):
    """Record the training batches, and send a signal in the midst of a step of training or validation."""
    seen = []

    def watch(name):
        original = getattr(HAMRModule, name)

        def step(self, batch, batch_idx):
            if name == "training_step":
                seen.append((self.current_epoch, self.global_step, batch.sources))
            if (name, self.global_step) == (hook, at):
                signal.raise_signal(signum)
            return original(self, batch, batch_idx)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ("training_step", "validation_step"):
            patch.setattr(HAMRModule, name, watch(name))
        yield seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the batches and the final weights of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SMALL_RECIPE)
    with watched() as batches:
        assert fit_command(["--recipe", str(folder / "small.yaml"), "--output", str(folder / "run")]) == 0
    return batches, weights(folder / "run")


def weights(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def metrics_rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_all_that_it_promises(small, tmp_path, capsys):
    assert fit_command(["--recipe", small, "--output", "run", "--losses.seg.weight", "3"]) == 0
    run = tmp_path / "run"

    assert load_recipe(run / "recipe.yaml").to_dict() == load_recipe(small, ["losses.seg.weight=3"]).to_dict()

    rows = metrics_rows(run)
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(8))
    assert {"train/joints_3d", "train/seg", "val/loss", "val/auc_3d", "val/joint_error_mm", "val/miou"} <= rows[
        0
    ].keys()

    figures = json.loads((run / "metrics.json").read_text())
    assert figures["step"] == 8
    assert figures["model"].keys() == figures["constant"].keys() == {"auc_3d", "joint_error_mm", "miou"}
    assert figures["model"]["joint_error_mm"] == pytest.approx(float(rows[-1]["val/joint_error_mm"]))
    assert all(10 < figures[who]["joint_error_mm"] < 300 for who in ("model", "constant"))

    for name in ("training.png", "validation.png"):
        assert cv2.imread(str(run / "figures" / name)).std() > 10

    out = capsys.readouterr().out
    assert re.search(r"after 8 steps, in run\n +validation +model +best constant\n", out)
    assert re.search(rf"mean joint error \(mm\) +{figures['model']['joint_error_mm']:.3f} ", out)
    assert "run/figures/validation.png" in out

    model = load_checkpoint(run / "checkpoints" / "last.ckpt")
    assert model(torch.zeros(1, 3, 64, 64)).vertices.shape == (1, 778, 3)
    assert load_checkpoint(run / "checkpoints" / "best.ckpt").hparams["recipe"] == model.hparams["recipe"]


def test_the_same_recipe_gives_the_same_run(small, tmp_path, whole):
    assert fit_command(["--recipe", small, "--output", "again"]) == 0
    again = weights(tmp_path / "again")
    assert all(torch.equal(again[name], expected) for name, expected in whole[1].items())


@pytest.mark.parametrize(
    ("hook", "at", "signum", "status"),
    [
        ("training_step", 1, signal.SIGINT, 130),
        ("training_step", STEPS_AN_EPOCH - 1, signal.SIGTERM, 143),
        ("validation_step", STEPS_AN_EPOCH, signal.SIGTERM, 143),
        ("training_step", STEPS_AN_EPOCH + 2, signal.SIGTERM, 143),
    ],
)
def test_a_run_stopped_and_resumed_is_one_never_stopped(small, tmp_path, capsys, whole, hook, at, signum, status):
    all_batches, final_weights = whole
    steps = at + (hook == "training_step")

    with watched(hook, at, signum) as stopped:
        assert fit_command(["--recipe", small, "--output", "parts"]) == status
    assert stopped == all_batches[:steps]
    error = capsys.readouterr().err
    assert f"stopped by {signal.Signals(signum).name} after step {steps}; go on with:\n" in error
    assert "Traceback" not in error
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    command = error.splitlines()[-1].split()
    assert command[0] == "hamr-fit"
    with watched() as resumed:
        assert fit_command(command[1:]) == 0
    assert [*stopped, *resumed] == all_batches

    resumed_weights = weights(tmp_path / "parts")
    assert all(torch.equal(resumed_weights[name], expected) for name, expected in final_weights.items())
    # Lightning logs a step after the callbacks, of which one has stopped it.
    logged = [int(row["step"]) for row in metrics_rows(tmp_path / "parts") if row["train/loss"]]
    assert logged == [step for step in range(8) if (hook, at) != ("training_step", step)]
    assert json.loads((tmp_path / "parts" / "metrics.json").read_text())["step"] == 8


def test_auto_resumes_the_newest_run_of_the_recipe(small, tmp_path):
    assert fit_command(["--recipe", small, "--trainer.max_epochs", "1", "--resume", "auto"]) == 0
    (run,) = (tmp_path / "runs" / "small").iterdir()
    with watched() as batches:
        assert fit_command(["--recipe", small, "--resume", "auto"]) == 0
    assert [step for _, step, _ in batches] == list(range(4, 8))
    assert list((tmp_path / "runs" / "small").iterdir()) == [run]


def test_a_folder_is_not_written_twice(small, tmp_path, capsys):
    assert fit_command(["--recipe", small, "--output", "run", "--trainer.max_epochs", "1"]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fit_command(["--recipe", small, "--output", "run"]) == 2
    assert (
        "run: is not empty; give another folder, or go on with the run in it by --resume auto"
        in capsys.readouterr().err
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_resuming_with_another_optimizer_is_refused(small, capsys):
    assert fit_command(["--recipe", small, "--output", "run", "--trainer.max_epochs", "1"]) == 0
    given = ["--recipe", small, "--resume", "run/checkpoints/last.ckpt", "--optimizer.name", "SGD"]
    assert fit_command(given) == 2
    assert "last.ckpt: its optimizer is RMSprop, that of the recipe SGD" in capsys.readouterr().err


def test_a_checkpoint_is_saved_every_so_many_steps(small, tmp_path, monkeypatch):
    monkeypatch.setattr("hamr_lightning.runs.STEPS_BETWEEN_CHECKPOINTS", 3)
    saved = []
    save = pl.Trainer.save_checkpoint
    monkeypatch.setattr(
        pl.Trainer,
        "save_checkpoint",
        lambda self, path, *a, **k: saved.append((self.global_step, Path(path).name)) or save(self, path, *a, **k),
    )
    assert fit_command(["--recipe", small, "--output", "run"]) == 0
    assert [step for step, name in saved if name == "last.ckpt"] == [3, 4, 7, 8]
    assert {name for _, name in saved} == {"last.ckpt", "best.ckpt"}


def test_the_constant_is_found_from_a_fixed_number_of_training_samples(small, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("hamr_lightning.fit.CONSTANT_SAMPLES", 5)
    best, figures = Constant.best, Constant.figures

    def watch(batches):
        for batch in batches:
            seen.append(len(batch))
            yield batch

    monkeypatch.setattr(Constant, "best", lambda training, size: best(watch(training), size))
    monkeypatch.setattr(Constant, "figures", lambda self, validation: figures(self, watch(validation)))
    assert fit_command(["--recipe", small, "--output", "run", "--trainer.max_epochs=1"]) == 0
    assert seen == [2, 2, 2, 2, 1]


def test_a_run_without_validation_has_no_figures(small, tmp_path):
    changes = ["--trainer.limit_val_batches=0", "--scheduler=null", "--trainer.max_epochs=1"]
    assert fit_command(["--recipe", small, "--output", "run", *changes]) == 0
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures == {"step": 4, "model": {}, "constant": {}, "skipped": []}


def test_a_plateau_without_validation_is_refused_before_anything_is_written(small, tmp_path, capsys):
    assert fit_command(["--recipe", small, "--output", "run", "--trainer.limit_val_batches=0"]) == 2
    assert "trainer.limit_val_batches: must not be 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_without_mesh_is_reported_without_masks(small, tmp_path, capsys):
    changes = ["--decoder.name=joints", "--renderer=null", "--losses.seg=null"]
    assert fit_command(["--recipe", small, "--output", "run", "--trainer.max_epochs=1", *changes]) == 0
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["model"].keys() == figures["constant"].keys() == {"auc_3d", "joint_error_mm"}
    assert re.search(r"mIoU +- +-\n", capsys.readouterr().out)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_saves_and_stops(small, tmp_path):
    """The signal reaches the loader's worker processes as well."""
    given = ["--recipe", small, "--output", "run", "--data.workers", "1", "--trainer.max_epochs", "10000"]
    with subprocess.Popen(
        [sys.executable, "-m", "hamr_lightning.cli.fit", *given],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            assert run.poll() is None, run.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        error = run.stderr.read().decode()
    assert run.returncode == 130, error
    assert "Traceback" not in error
    assert "stopped by SIGINT after step" in error
    step = int(re.search(r"after step (\d+)", error)[1])
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == step


SEVERAL = [
    "--data.train=[{name: synthetic, count: 6, render_size: 64}, {name: synthetic, count: 4, weight: 0.5}]",
    "--data.val=[{name: synthetic, val_count: 3, render_size: 64}, {name: synthetic, val_count: 2}]",
]


def test_several_data_sets_train_and_are_validated_each_by_itself(small, tmp_path, capsys):
    assert fit_command(["--recipe", small, "--output", "run", *SEVERAL]) == 0

    final = json.loads((tmp_path / "run" / "metrics.json").read_text())
    expected = {f"{name}/{key}" for name in ("synthetic", "synthetic_2") for key in FIGURES}
    assert set(final["model"]) == set(final["constant"]) == expected
    assert final["step"] == 2 * (6 + 2) // 2
    logged = {name for row in metrics_rows(tmp_path / "run") for name, value in row.items() if value}
    assert {"val/loss", "val/synthetic/seg", "val/synthetic_2/auc_3d", "val/synthetic_2/loss"} <= logged
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"training.png", "synthetic_validation.png", "synthetic_2_validation.png"}
    assert "synthetic_2 3D PCK AUC (20-50 mm)" in capsys.readouterr().out


def test_a_sample_that_cannot_be_read_is_left_out_and_reported(small, tmp_path, capsys, monkeypatch):
    whole = SyntheticDataset.sample

    def sample(self, index, epoch=0):
        if index == 1:
            raise ValueError("pictures/1.png is broken; copy it again")
        return whole(self, index, epoch)

    monkeypatch.setattr(SyntheticDataset, "sample", sample)
    with pytest.warns(UserWarning, match="skipped, 1 of at most 10: pictures/1.png is broken"):
        assert fit_command(["--recipe", small, "--output", "run"]) == 0
    assert "skipped 1 sample(s) that could not be read:\n  pictures/1.png is broken" in capsys.readouterr().out
    assert fit_command(["--recipe", small, "--output", "again", "--data.max_skipped=0"]) == 2
    assert "1 sample(s) cannot be read, more than data.max_skipped, 0: pictures/1.png" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:You requested to overfit")  # Lightning replaces our samplers, and says so
def test_lightning_may_overfit_some_batches(small, tmp_path):
    given = ["--recipe", small, "--output", "run", "--trainer.overfit_batches=2", "--trainer.max_epochs=2"]
    assert fit_command(given) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] == 4


def test_a_validation_set_that_cannot_be_read_is_named(small, capsys, monkeypatch):
    whole = SyntheticDataset.sample

    def sample(self, index, epoch=0):
        if len(self) == 3:
            raise ValueError(f"pictures/{index}.png is broken")
        return whole(self, index, epoch)

    monkeypatch.setattr(SyntheticDataset, "sample", sample)
    with pytest.warns(UserWarning, match="skipped"):
        assert fit_command(["--recipe", small, "--output", "run"]) == 2
    assert "no sample of the validation set synthetic can be read" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_with_unequal_numbers_of_batches_do_not_wait_for_each_other(small, tmp_path):
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.val_count=5", "--trainer.max_epochs=1"]
    command = [sys.executable, "-m", "hamr_lightning.cli.fit", "--recipe", small, "--output", "run", *ddp]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, timeout=200, check=True, capture_output=True)
    final = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert final["step"] == 2
    assert final["model"].keys() == {"auc_3d", "joint_error_mm", "miou"}
