"""hamr-data: options, exit statuses, messages."""

import cv2
import pytest

from hamr_lightning.cli.data import main


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
