"""The decoder against manopth's ManoLayer, and the plugin that wraps it, where that package is installed."""

from pathlib import Path

import pytest
import torch

import mano_files
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel
from hamr_lightning.registry import build

pytest.importorskip("manopth.manolayer", reason="manopth and chumpy are not installed")

# manopth hands chumpy's read-only arrays to torch, and leaves its file open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.mark.parametrize("flat_hand_mean", [True, False])
@pytest.mark.parametrize("pose_components", [6, 45, None])
@pytest.mark.parametrize("kind", ["open", "random"])
def test_vertices_and_joints(kind: str, pose_components: int | None, flat_hand_mean: bool, tmp_path: Path) -> None:
    hand = HandModel.load(fingertips="manopth")
    if kind == "random":
        file = mano_files.write(tmp_path / "hand.pkl", mano_files.official_pickle(mano_files.random_arrays()))
        hand = HandModel.load(file, fingertips="manopth")
    hand.save(tmp_path / "MANO_RIGHT.pkl")
    ours = ManoDecoder(hand, pose_components, flat_hand_mean=flat_hand_mean, joint_source="chain")
    theirs = build(
        "decoder", "manopth", mano_root=tmp_path, pose_components=pose_components, flat_hand_mean=flat_hand_mean
    )
    assert not theirs.state_dict()
    assert (theirs.orient_size, theirs.pose_size, theirs.shape_size) == (3, ours.pose_size, 10)
    assert torch.equal(theirs.faces, ours.faces)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(16, width, generator=generator) for width in (3, ours.pose_size, 10)]
    expected, mesh = theirs(*inputs), ours(*inputs)
    torch.testing.assert_close(mesh.vertices, expected.vertices, rtol=0, atol=1e-6)
    torch.testing.assert_close(mesh.joints, expected.joints, rtol=0, atol=1e-6)
