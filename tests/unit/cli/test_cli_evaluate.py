"""hamr-eval: what it prints and leaves, exit statuses, messages."""

import csv
import json

import pytest
import torch

from hamr_lightning import load_recipe
from hamr_lightning.cli.evaluate import PROTOCOL_NAMES, main
from hamr_lightning.evaluation import PROTOCOLS
from layouts.stored import write_stored

CHECKPOINT = "run/checkpoints/last.ckpt"


@pytest.fixture
def checkpoint(small, tmp_path):
    """Save a model that is not trained, in a run's folder."""
    return save(load_recipe(small), tmp_path)


def save(recipe, tmp_path):
    model = recipe.build_model()
    (tmp_path / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(content, tmp_path / CHECKPOINT)
    return CHECKPOINT


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_protocols_names_are_known_without_loading_them():
    assert (*PROTOCOLS,) == PROTOCOL_NAMES


def test_an_evaluation_prints_a_table_and_leaves_its_files_in_the_run(checkpoint, capsys, tmp_path):
    assert main(["--checkpoint", checkpoint, "--device", "cpu"]) == 0

    folder = tmp_path / "run" / "evaluation" / "last_paper" / "synthetic"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {key: metrics.pop(key) for key in ("protocol", "samples", "skipped")} == {
        "protocol": "paper",
        "samples": 3,
        "skipped": [],
    }
    heading, *rows, place = capsys.readouterr().out.splitlines()
    assert heading == "synthetic: 3 samples, protocol paper"
    assert place == "  in run/evaluation/last_paper/synthetic"
    assert len(rows) == len(metrics) == len(PROTOCOLS["paper"].figures)
    for row, (key, value) in zip(rows, metrics.items(), strict=True):
        assert row.split()[-1] == f"{value:.4g}"
        assert PROTOCOLS["paper"].figures[key].label in row
    assert "figures/worst.png" in files(folder)


def test_other_data_needs_no_training_data(checkpoint, capsys, tmp_path):
    write_stored("rhd", tmp_path / "RHD", "val")
    assert main(["--checkpoint", checkpoint, "--data.name", "rhd", "--data.root", "RHD", "--output", "out"]) == 0

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rhd"]
    with (tmp_path / "out" / "rhd" / "samples.csv").open(newline="") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == ["RHD/evaluation/color/00000.png", "RHD/evaluation/color/00001.png"]
    assert "rhd: 2 samples" in capsys.readouterr().out


def test_a_picture_that_cannot_be_read_is_left_out_and_named(checkpoint, capsys, tmp_path):
    write_stored("rhd", tmp_path / "RHD", "val")
    (tmp_path / "RHD" / "evaluation" / "color" / "00001.png").write_bytes(b"no picture")
    command = ["--checkpoint", checkpoint, "--data.name", "rhd", "--data.root", "RHD", "--output", "out"]
    with pytest.warns(UserWarning, match="skipped"):
        assert main(command) == 0

    assert "  skipped: RHD/evaluation/color/00001.png is broken" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "rhd" / "metrics.json").read_text())
    assert metrics["samples"] == 1
    assert metrics["skipped"][0].startswith("RHD/evaluation/color/00001.png is broken")

    assert main([*command, "--protocol", "freihand"]) == 2  # its scorer counts the pictures
    assert "00001.png is broken" in capsys.readouterr().err


def test_a_run_of_joints_alone_is_drawn_and_scored(small, capsys, tmp_path):
    recipe = load_recipe(small, ["decoder.name=joints", "renderer=null", "losses.seg=null"])
    save(recipe, tmp_path)
    assert main(["--checkpoint", CHECKPOINT, "--protocol", "freihand"]) == 0
    assert {"pred.json", "figures/worst.png"} <= set(files(tmp_path / "run/evaluation/last_freihand/synthetic"))
    assert "PA-MPVPE" not in capsys.readouterr().out


def test_what_the_recipe_says_of_trainer_and_logger_does_not_matter(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    overrides = ["--logger.name", "wandb", "--trainer.accelerator", "gpu", "--trainer.devices", "8"]
    assert main(["--checkpoint", checkpoint, *overrides]) == 0
    assert files(tmp_path / "run" / "evaluation")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--checkpoint", "gone.ckpt"], "hamr-eval: error: gone.ckpt: no such checkpoint file"),
        (["--checkpoint", "small.yaml"], "small.yaml: not a checkpoint"),
        (["--checkpoint", CHECKPOINT, "--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--checkpoint", CHECKPOINT, "--device", "toaster"], "device 'toaster' cannot be used"),
        (["--checkpoint", CHECKPOINT, "--device", "meta"], "device 'meta' cannot be used"),
        (["--checkpoint", CHECKPOINT, "--curves", "small.yaml"], "small.yaml: has no column method, threshold, pck"),
        (["--checkpoint", CHECKPOINT, "--data.name", "rhd", "--data.root", "gone"], "data: gone"),
        (["--checkpoint", CHECKPOINT, "--data.nmae", "rhd"], "override 'data.nmae=rhd': data.nmae"),
        (["--checkpoint", CHECKPOINT, "--output", "small.yaml"], "small.yaml: is a file, give a folder"),
    ],
)
def test_a_mistake_is_one_message_and_status_2_and_leaves_nothing(checkpoint, capsys, tmp_path, given, message):
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert files(tmp_path) == [CHECKPOINT, "small.yaml"]


def test_an_unknown_protocol_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--checkpoint", "any.ckpt", "--protocol", "fryhand"])
    assert exit_.value.code == 2
    assert "invalid choice: 'fryhand'" in capsys.readouterr().err
