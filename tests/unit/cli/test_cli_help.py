"""Every command answers --help at once."""

import resource
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

COMMANDS = [entry.value for entry in entry_points(group="console_scripts") if entry.name.startswith("hamr-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick(command):
    module, name = command.split(":")
    code = f"""
import sys
from {module} import {name}
try:
    {name}(["--help"])
finally:
    heavy = {{"torch", "pytorch_lightning", "numba", "cv2", "matplotlib", "jsonargparse"}} & set(sys.modules)
    assert not heavy, heavy
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0, run.stderr
    assert "usage: hamr-" in run.stdout
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 2


def test_there_are_commands():
    assert len(COMMANDS) >= 2
