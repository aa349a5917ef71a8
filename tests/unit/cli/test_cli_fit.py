"""hamr-fit: options, exit statuses, messages."""

import pytest

from hamr_lightning import load_recipe
from hamr_lightning.cli.fit import main


def test_print_recipe_shows_the_resolved_one_and_does_no_more(small, capsys, tmp_path):
    assert main(["--recipe", small, "--print-recipe", "--losses.seg.weight", "5", "--seed=7"]) == 0
    expected = load_recipe(small, ["losses.seg.weight=5", "seed=7"])
    assert capsys.readouterr().out == expected.to_yaml()
    assert [path.name for path in tmp_path.iterdir()] == [small]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--recipe", "ful"],
            "hamr-fit: error: ful: no such file, and no recipe of that name ships; did you mean 'full'?",
        ),
        (["--recipe", "small.yaml", "--losses.seg.wieght=1"], "override 'losses.seg.wieght=1': losses.seg.wieght:"),
        (["--recipe", "small.yaml", "--losses.seg.weight", "-1"], "losses.seg: SegmentationLoss: weight must be"),
        (["--recipe", "small.yaml", "--data.name", "rhd", "--data.root", "gone"], "data: gone"),
        (["--recipe", "small.yaml", "--decoder.hand=gone.pkl"], "decoder: gone.pkl: there is no such file"),
        (["--recipe", "small.yaml", "--resume", "gone.ckpt"], "gone.ckpt: no such checkpoint file"),
        (["--recipe", "small.yaml", "--data.image_size", "36", "--renderer.size=12"], "model and data do not fit"),
        (["--recipe", "small.yaml", "--data.batch_size", "9"], "data.batch_size is 9, but 8 training samples"),
        (["--recipe", "small.yaml", "--output", "small.yaml"], "small.yaml: is a file, give a folder for the run"),
    ],
)
def test_a_mistake_is_one_message_and_status_2_and_leaves_nothing(small, capsys, tmp_path, given, message):
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == [small]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the following arguments are required: --recipe"),
        (["--recipe", "small.yaml", "--otuput", "x"], "unknown option '--otuput'; did you mean 'output'?"),
        (["--recipe", "small.yaml", "stray"], "unknown option 'stray'"),
        (["--recipe", "small.yaml", "--seed"], "--seed needs a value"),
        (["--recipe", "small.yaml", "--seed", "--losses.seg=null"], "--seed needs a value"),
        (["--recipe", "small.yaml", "--rec", "x"], "unknown option '--rec'"),
    ],
)
def test_options_that_are_mistakes(small, capsys, given, message):
    with pytest.raises(SystemExit) as exit_:
        main(given)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_holds_something_is_left_alone(small, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    for resume in ([], ["--resume", "auto"]):
        assert main(["--recipe", small, "--output", "mine", *resume]) == 2
        assert "mine: is not empty; give another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_interruption_before_training_is_quiet(small, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hamr_lightning.fit.fit", interrupt)
    assert main(["--recipe", small]) == 130
    assert "Traceback" not in capsys.readouterr().err
