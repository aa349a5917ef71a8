"""hamr-data: options, exit statuses, messages."""

import json
import pickle
import shutil

import cv2
import pytest

from hamr_lightning.cli.data import main
from layouts.dexter_object import write_dexter_object


def test_preview_writes_a_sheet(small, capsys, tmp_path):
    given = ["preview", "synthetic", "--recipe", small, "--count", "3", "--output", "sheets/a.png", "--split", "val"]
    assert main([*given, "--data.val_count", "2"]) == 0
    assert capsys.readouterr().out == "sheets/a.png: 2 samples\n"
    sheet = cv2.imread(str(tmp_path / "sheets" / "a.png"))
    assert sheet.shape[0] % 64 == 0
    assert sheet.shape[1] % 128 == 0
    assert sheet.std() > 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["rdh"], "data.name: no dataset is named 'rdh'; did you mean 'rhd'?"),
        (["rhd"], "data.root: is missing; RhdDataset needs it"),
        (["--data.name", "rhd", "--data.root", "gone"], "data: gone"),
    ],
)
def test_a_preview_that_is_a_mistake(small, capsys, tmp_path, given, message):
    assert main(["preview", *given, "--recipe", small]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [small]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "set"
    given = ["synth", "--layout", "rhd", "--count", "4", "--val-count", "2", "--output", str(root), "--workers", "0"]
    assert main([*given, "--seed", "3", "--data.occluders", "0"]) == 0
    return root


@pytest.fixture
def rhd(rendered, tmp_path):
    return shutil.copytree(rendered, tmp_path / "rhd")


def test_synth_writes_a_set_that_verify_finds_nothing_wrong_with(rendered, capsys, tmp_path):
    assert main(["verify", "rhd", str(rendered), "--workers", "0", "--output", str(tmp_path / "a" / "x.json")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rhd, train: 4 samples, where 41258 are published: a smaller copy",
        "rhd, val: 2 samples, where 2728 are published: a smaller copy",
        "nothing found wrong",
        f"report: {tmp_path / 'a' / 'x.json'}",
    ]
    report = json.loads((tmp_path / "a" / "x.json").read_text())
    assert [(split["split"], split["samples"], split["findings"]) for split in report["splits"]] == [
        ("train", 4, []),
        ("val", 2, []),
    ]


def test_verify_names_all_that_is_wrong_and_exits_1(rhd, capsys, tmp_path):
    (rhd / "training" / "color" / "00001.png").write_bytes(b"\x89PNG")
    (rhd / "training" / "mask" / "00002.png").unlink()
    (rhd / "evaluation" / "anno_evaluation.pickle").write_bytes(b"broken")
    assert main(["verify", "rhd", "--data.root", str(rhd), "--workers", "0", "--output", str(tmp_path / "x.txt")]) == 1
    output = capsys.readouterr().out
    for line in (
        "rhd, train: 4 samples",
        "  cannot be read: 2",
        f"    sample 1: {rhd}/training/color/00001.png is broken",
        f"    sample 2: {rhd}/training/mask/00002.png is missing",
        "rhd, val: 0 samples\n",
        f"    the annotation: {rhd}/evaluation/anno_evaluation.pickle cannot be read",
        "3 found wrong",
    ):
        assert line in output
    assert output == (tmp_path / "x.txt").read_text() + f"report: {tmp_path / 'x.txt'}\n"


def test_verify_tells_of_a_missing_folder_of_masks_and_shows_few_of_many(rhd, capsys, tmp_path):
    shutil.rmtree(rhd / "training" / "mask")
    shutil.rmtree(rhd / "training" / "color")
    for name, count in (("few", 1), ("all", 2)):
        path = rhd / "training" / "anno_training.pickle"
        annotation = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(dict(enumerate(list(annotation.values()) * count))))
        assert (
            main(["verify", "rhd", str(rhd), "--split", "train", "--workers", "0", "--output", f"{rhd}/{name}.txt"])
            == 1
        )
    output = capsys.readouterr().out
    assert f"  not whole: 1\n    the data set: {rhd}/training/mask is missing: no hand has a mask" in output
    assert "  cannot be read: 8\n" in output
    assert "    and 3 more, which --output lists" in output
    assert (rhd / "all.txt").read_text().count("is missing; unpack it again") == 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["verify", "rdh", "x"], "no dataset is named 'rdh'; did you mean 'rhd'?"),
        (["verify", "rhd"], "data.root: is missing; RhdDataset needs it"),
        (["verify", "rhd", "gone"], "data.root: gone is no folder; root must name"),
        (["verify", "rhd", ".", "--data.root", "b"], "only arguments of the data set can be given, each once"),
        (["verify", "rhd", ".", "--losses.cam.weight", "2"], "only arguments of the data set can be given"),
        (["verify", "rhd", ".", "--data", "2"], "only arguments of the data set can be given"),
        (
            ["verify", "rhd", ".", "--data.rot", "2"],
            "data.rot: RhdDataset takes no such argument; did you mean 'root'?",
        ),
        (["verify", "rhd", ".", "--data.split", "val"], "data.split: is filled in by the library"),
        (["verify", "rhd", ".", "--output", "report.pdf"], "--output must be a file that ends in .json or .txt"),
        (["verify", "dexter_object", ".", "--split", "train"], "dexter_object has no split 'train', only val"),
        (["synth", "--count", "2", "--output", "."], "--output .: is not empty; give another folder"),
        (["synth", "--count", "2", "--output", "small.yaml"], "--output small.yaml: is not empty"),
        (["synth", "--count", "2", "--output", "new", "--data.count", "3"], "data.count: is filled in by the library"),
        (["synth", "--count", "2", "--output", "new", "--data.occluders", "3"], "occluders must be in [0, 1], got 3"),
        (["synth", "--count", "2", "--output", "new", "--seed", "-3"], "seed must be at least 0, got -3"),
        (["synth", "--count", "2", "--output", "new", "--seed", "x"], "data.seed: must be int"),
        (["synth", "--count", "2", "--output", "new", "--data.hand", "gone.pkl"], "gone.pkl: there is no such file"),
        (["synth", "--count", "2", "--output", "small.yaml/new"], "Not a directory"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(small, capsys, tmp_path, given, message):
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == [small]


def test_an_interrupted_synth_says_that_it_is_no_data_set(small, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hamr_lightning.data.rhd_writer.pickle.dumps", interrupt)
    given = ["synth", "--count", "1", "--output", "new", "--workers", "0"]
    assert main(given) == 130
    assert "stopped; what is in new lacks the annotation and is no data set" in capsys.readouterr().err
    assert main(["verify", "rhd", "new", "--workers", "0"]) == 1
    assert "anno_training.pickle is missing" in capsys.readouterr().out


def test_preview_of_a_written_set(rhd, small):
    assert (
        main(["preview", "rhd", "--recipe", small, "--data.root", str(rhd), "--count", "4", "--output", "a.png"]) == 0
    )


def test_preview_of_a_set_that_has_no_training_split(small, capsys, tmp_path):
    write_dexter_object(tmp_path / "dexter", frames=1)
    given = ["preview", "dexter_object", "--recipe", small, "--data.root", "dexter", "--count", "3", "--split", "val"]

    assert main([*given, "--output", "a.png"]) == 0
    assert capsys.readouterr().out == "a.png: 3 samples\n"


def test_preview_leaves_out_what_cannot_be_read(rhd, small, capsys):
    path = next((rhd / "training" / "color").iterdir())
    path.write_bytes(path.read_bytes()[:200])
    given = ["preview", "rhd", "--recipe", small, "--data.root", str(rhd), "--count", "100", "--output", "a.png"]
    with pytest.warns(UserWarning, match=f"skipped, 1 of at most 10: .*{path.name} is broken"):
        assert main(given) == 0
    count = len(list(path.parent.iterdir()))
    assert f"a.png: {count - 1} samples" in capsys.readouterr().out
