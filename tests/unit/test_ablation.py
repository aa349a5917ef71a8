"""Ablation studies, whose trainings and evaluations are played by a stand-in that leaves their files."""

import csv
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from hamr_lightning import load_recipe
from hamr_lightning.ablation import AblationError, Interrupted, _call, ablate
from hamr_lightning.evaluation.report import THIS, write_curves
from hamr_lightning.recipe import load_variant, override
from small_recipe import SMALL_RECIPE

FIGURES = {"small": 0.5, "no_seg": 0.25, "no_mesh": 0.125}


@pytest.fixture
def recipes(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RECIPE)
    base = load_recipe(path)
    return [base, load_variant(base, "no_seg"), load_variant(base, "no_mesh")]


@pytest.fixture
def play(monkeypatch):
    """Let commands end with statuses by recipe and command, else 0; return what is called."""

    def play(statuses):
        called = []

        def call(command):
            name, *words = map(str, command)
            options = dict(zip(words[::2], words[1::2], strict=True))
            recipe = Path(options["--output"] if name == "fit" else options["--checkpoint"].split("/checkpoints")[0])
            called.append((recipe.name, name))
            status = statuses.get(called[-1], 0)
            if isinstance(status, Exception):
                raise status
            if status == 0:
                leave_training(options) if name == "fit" else leave_evaluation(recipe.name, options)
            return status

        monkeypatch.setattr("hamr_lightning.ablation._call", call)
        return called

    return play


def leave_training(options):
    assert options["--resume"] == "auto"
    run = Path(options["--output"])
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text(load_recipe(options["--recipe"]).to_yaml())
    (run / "metrics.json").write_text("{}")


def leave_evaluation(recipe, options):
    assert options["--protocol"] == "paper"
    folder = Path(options["--output"]) / "synthetic"
    folder.mkdir(parents=True)
    thresholds = np.linspace(20, 50, 20)
    write_curves({"pck_3d": {THIS: (thresholds, FIGURES[recipe] * thresholds / 50)}}, folder / "curves.csv")
    (folder / "metrics.json").write_text(json.dumps({"protocol": "paper", "auc_3d": FIGURES[recipe]}))


def table(folder):
    with (folder / "ablation.csv").open(newline="") as file:
        return {row["recipe"]: row for row in csv.DictReader(file)}


EVERYTHING = [(recipe, command) for recipe in FIGURES for command in ("fit", "evaluate")]


def test_each_recipe_is_trained_and_evaluated_in_turn(recipes, play, tmp_path):
    called = play({})
    results = ablate(recipes, tmp_path / "study", "paper")

    assert called == EVERYTHING
    assert [result.name for result in results] == [*FIGURES]
    assert {name: float(row["auc_3d"]) for name, row in table(tmp_path / "study").items()} == FIGURES
    assert {row["set"] for row in table(tmp_path / "study").values()} == {"synthetic"}
    assert {row["miou"] + row["failure"] for row in table(tmp_path / "study").values()} == {""}
    assert [path.name for path in (tmp_path / "study" / "figures").iterdir()] == ["synthetic_pck_3d.png"]
    for recipe in recipes:
        assert load_recipe(tmp_path / "study" / "recipes" / f"{recipe.name}.yaml").to_dict() == recipe.to_dict()


def test_what_is_there_is_found(recipes, play, tmp_path):
    play({})
    ablate(recipes[:2], tmp_path / "study", "paper")
    called = play({})
    results = ablate(recipes, tmp_path / "study", "paper")

    assert called == [("no_mesh", "fit"), ("no_mesh", "evaluate")]
    assert [result.figures("synthetic")["auc_3d"] for result in results] == [*FIGURES.values()]
    assert [*table(tmp_path / "study")] == [*FIGURES]


@pytest.mark.parametrize(("failing", "what"), [("fit", "training"), ("evaluate", "evaluation")])
def test_one_that_fails_is_reported_and_tried_again_next_time(recipes, play, tmp_path, failing, what):
    called = play({("no_seg", failing): 7})
    results = ablate(recipes, tmp_path / "study", "paper")

    assert [result.failure for result in results] == ["", f"{what} failed with status 7", ""]
    assert called == [call for call in EVERYTHING if failing == "evaluate" or call != ("no_seg", "evaluate")]
    rows = table(tmp_path / "study")
    assert [rows[name]["auc_3d"] for name in FIGURES] == ["0.5", "", "0.125"]
    assert rows["no_seg"]["failure"] == f"{what} failed with status 7"

    called = play({})
    assert not any(result.failure for result in ablate(recipes, tmp_path / "study", "paper"))
    assert called == [call for call in EVERYTHING if call[0] == "no_seg"][failing == "evaluate" :]


def test_without_any_result_there_is_a_table_all_the_same(recipes, play, tmp_path):
    play({(name, "fit"): 1 for name in FIGURES})
    ablate(recipes, tmp_path / "study", "paper")
    assert len(table(tmp_path / "study")) == 3
    assert not (tmp_path / "study" / "figures").exists()


def test_an_interrupted_study_goes_on_where_it_stopped(recipes, play, tmp_path):
    called = play({("no_seg", "fit"): Interrupted(130)})
    with pytest.raises(Interrupted):
        ablate(recipes, tmp_path / "study", "paper")
    assert called == EVERYTHING[:3]

    called = play({})
    ablate(recipes, tmp_path / "study", "paper")
    assert called == EVERYTHING[2:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed=4", "recipe other: its seed is not that of small"),
        ("data.count=9", "recipe other: its data is not that of small"),
        ("name=small", "recipes must have different names, but there are several named small"),
    ],
)
def test_recipes_that_cannot_be_compared_are_refused(recipes, play, tmp_path, change, message):
    called = play({})
    other = override(recipes[0], [change] if change.startswith("name") else ["name=other", change])
    with pytest.raises(AblationError, match=message):
        ablate([recipes[0], other], tmp_path / "study", "paper")
    assert called == []
    assert not (tmp_path / "study").exists()


def test_a_folder_of_another_study_is_left_alone(recipes, play, tmp_path):
    play({})
    ablate(recipes[:1], tmp_path / "study", "paper")
    longer = override(recipes[0], ["trainer.max_epochs=3"])
    called = play({})
    with pytest.raises(AblationError, match=r"small/recipe\.yaml: is of another recipe .*; give another folder"):
        ablate([longer, recipes[1]], tmp_path / "study", "paper")
    with pytest.raises(AblationError, match=r"small\.yaml: is a file"):
        ablate(recipes, tmp_path / "small.yaml", "paper")
    assert called == []


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Put a shell's commands in the place of Python."""

    def python(commands):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{commands}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, a shell has it ignored
    yield python
    signal.signal(signal.SIGINT, usual)


@pytest.mark.parametrize(("commands", "status"), [("exit 0", 0), ("exit 2", 2), ("kill -KILL $$", -signal.SIGKILL)])
def test_the_status_of_a_command(python, commands, status):
    python(commands)
    assert _call(["fit"]) == status


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        ("exit 130", 130),
        ("exit 143", 143),
        ("kill -INT $$", 130),
        ("kill -TERM $$", 143),
        ("sleep 0.5; kill -TERM $PPID; exec sleep 20", 143),  # what asks the study to stop stops its command
    ],
)
def test_a_stopped_command_stops_the_study(python, commands, status):
    python(commands)
    with pytest.raises(Interrupted, match="the same command goes on") as caught:
        _call(["fit"])
    assert caught.value.status == status


def test_an_interruption_is_left_to_the_command(python):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    python("sleep 0.5; kill -INT $PPID; sleep 0.3; exit 3")
    assert _call(["fit"]) == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
