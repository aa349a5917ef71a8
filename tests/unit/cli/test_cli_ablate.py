"""hamr-ablate: what it prints, exit statuses, messages."""

from pathlib import Path

import pytest

from hamr_lightning.ablation import Interrupted, Result
from hamr_lightning.cli.ablate import main


@pytest.fixture
def play(monkeypatch):
    """Let studies end with given results; return what they are asked for."""

    def play(outcome):
        asked = []

        def ablate(recipes, folder, protocol):
            asked.append(([recipe.to_dict() for recipe in recipes], folder, protocol))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr("hamr_lightning.ablation.ablate", ablate)
        return asked

    return play


@pytest.fixture
def reported(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    folder.joinpath("metrics.json").write_text('{"protocol": "paper", "samples": 3, "auc_3d": 0.8154, "miou": 0.7}')
    return Result("small", {"synthetic": folder}, "")


def test_the_variants_are_of_the_recipe_and_its_overrides(small, play, reported, capsys):
    asked = play([reported])
    assert main([small, "no_seg", "ablations/no_mesh", "--data.count", "6", "--seed=4"]) == 0

    ((recipes, folder, protocol),) = asked
    assert [recipe["name"] for recipe in recipes] == ["small", "no_seg", "no_mesh"]
    assert {(recipe["data"]["count"], recipe["seed"]) for recipe in recipes} == {(6, 4)}
    assert (folder, protocol) == (Path("runs/ablation_small"), "paper")
    assert capsys.readouterr().out.splitlines() == [
        "recipe set                auc_3d            miou",
        "small synthetic           0.815           0.700",
        "in runs/ablation_small",
    ]


def test_a_recipe_that_failed_is_in_the_table_and_in_the_status(small, play, reported, capsys):
    asked = play([reported, Result("no_seg", {}, "training failed with status 2")])
    assert main([small, "no_seg", "--output", "study", "--protocol", "ho3d"]) == 1
    assert asked[0][1:] == (Path("study"), "ho3d")
    assert capsys.readouterr().out.splitlines()[2] == "no_seg           training failed with status 2"


def test_an_interruption_is_the_status(small, play, capsys):
    play(Interrupted(143))
    assert main([small, "no_seg"]) == 143
    assert capsys.readouterr().err == "stopped with status 143; the same command goes on\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["smal.yaml", "no_seg"], "hamr-ablate: error: smal.yaml: no such file"),
        (["small.yaml", "no_sge"], "no_sge: no such file, and no recipe of that name ships; known: full"),
        (["small.yaml", "no_seg", "--losses.seg.wieght", "1"], "losses.seg.wieght"),
        (["small.yaml", "small.yaml"], "there are several named small"),
        (["small.yaml", "full"], "recipe full: its seed is not that of small"),
        (["small.yaml", "no_seg", "--output", "small.yaml"], "small.yaml: is a file"),
    ],
)
def test_a_mistake_is_one_message_and_status_2_and_leaves_nothing(small, capsys, tmp_path, given, message):
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == [small]


def test_a_recipe_alone_is_no_study(small, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([small])
    assert exit_.value.code == 2
    assert "required: VARIANT" in capsys.readouterr().err
