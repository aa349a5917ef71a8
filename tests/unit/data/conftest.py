"""A hand model for data sets whose annotation is MANO's."""

import pytest

from hamr_lightning.hand_model import HandModel


@pytest.fixture
def mano(tmp_path):
    """Stand the open hand, which the known hands are, in for a MANO file."""
    path = tmp_path / "MANO_RIGHT.npz"
    HandModel.load("open").save(path)
    return path
