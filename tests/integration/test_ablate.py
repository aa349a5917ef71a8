"""A study from beginning to end, in processes of its own."""

import csv
import signal
import subprocess
import sys
import time

import cv2
import pytest

from small_recipe import SMALL_RECIPE


@pytest.mark.slow
def test_a_study_is_stopped_and_goes_on_to_its_table_and_plots(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL_RECIPE.replace("max_epochs: 2", "max_epochs: 1"))
    command = [sys.executable, "-m", "hamr_lightning.cli.ablate", "small.yaml", "no_mesh", "--output", "study"]
    quiet = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    process = subprocess.Popen(command, **quiet)
    wait_for(tmp_path / "study" / "small" / "recipe.yaml", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "the same command goes on" in output
    assert not (tmp_path / "study" / "ablation.csv").exists()

    finished = subprocess.run(command, check=False, timeout=300, **quiet)
    assert finished.returncode == 0, finished.stdout
    with (tmp_path / "study" / "ablation.csv").open(newline="") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    assert [*rows] == ["small", "no_mesh"]
    assert 0 < float(rows["no_mesh"]["joint_error_mm"]) < 1000
    assert float(rows["small"]["miou"]) >= 0
    assert rows["no_mesh"]["miou"] == rows["small"]["failure"] == rows["no_mesh"]["failure"] == ""
    for name in ("pck_3d", "pck_2d"):
        assert cv2.imread(str(tmp_path / "study" / "figures" / f"synthetic_{name}.png")) is not None


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
