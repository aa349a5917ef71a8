"""The decoder against smplx's MANO class, which loads the hand that HandModel.save writes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mano_files
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel
from hamr_lightning.skeleton import MANO_TO_JOINTS

smplx = pytest.importorskip("smplx")

COUNT = 8
TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module", params=["open", "right", "left"])
def hand_and_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HandModel, Path]:
    folder = tmp_path_factory.mktemp("mano")
    if request.param == "open":
        hand = HandModel.load(fingertips="smplx")
    else:
        official = mano_files.official_pickle(mano_files.random_arrays(request.param))
        hand = HandModel.load(mano_files.write(folder / "official.pkl", official), fingertips="smplx")
    saved = folder / f"MANO_{hand.side.upper()}.pkl"
    hand.save(saved)
    return hand, saved


def inputs_of(decoder: ManoDecoder) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = (decoder.orient_size, decoder.pose_size, decoder.shape_size)
    return [torch.randn(COUNT, width, generator=generator).mul(0.5).requires_grad_() for width in widths]


def smplx_layer(file: Path, pose_components: int | None, flat_hand_mean: bool) -> Any:
    return smplx.create(
        str(file),
        "mano",
        is_rhand="RIGHT" in file.name,
        use_pca=pose_components is not None,
        num_pca_comps=pose_components or 45,
        flat_hand_mean=flat_hand_mean,
        batch_size=COUNT,
    )


@pytest.mark.parametrize("flat_hand_mean", [False, True])
@pytest.mark.parametrize("pose_components", [6, 12, None])
def test_vertices_joints_and_gradients(
    hand_and_file: tuple[HandModel, Path], pose_components: int | None, flat_hand_mean: bool
) -> None:
    hand, file = hand_and_file
    decoder = ManoDecoder(hand, pose_components, flat_hand_mean=flat_hand_mean, joint_source="chain")
    orient, pose, betas = inputs = inputs_of(decoder)
    mesh = decoder(orient, pose, betas)
    output = smplx_layer(file, pose_components, flat_hand_mean)(global_orient=orient, hand_pose=pose, betas=betas)
    tips = output.vertices[:, [744, 320, 443, 554, 671]]
    joints = torch.cat([output.joints, tips], 1)[:, MANO_TO_JOINTS]
    torch.testing.assert_close(mesh.vertices, output.vertices, **TOLERANCE)
    torch.testing.assert_close(mesh.joints, joints, **TOLERANCE)

    generator = torch.Generator().manual_seed(1)
    on_vertices, on_joints = (torch.randn(COUNT, count, 3, generator=generator) for count in (778, 21))
    ours = torch.autograd.grad((mesh.vertices * on_vertices).sum() + (mesh.joints * on_joints).sum(), inputs)
    theirs = torch.autograd.grad((output.vertices * on_vertices).sum() + (joints * on_joints).sum(), inputs)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


def test_all_45_components_are_a_change_of_basis(hand_and_file: tuple[HandModel, Path]) -> None:
    hand, file = hand_and_file
    decoder = ManoDecoder(hand, 45)
    orient, pose, betas = inputs_of(decoder)
    angles = pose @ torch.tensor(hand.pose_components, dtype=torch.float32)
    output = smplx_layer(file, None, flat_hand_mean=False)(global_orient=orient, hand_pose=angles, betas=betas)
    torch.testing.assert_close(decoder(orient, pose, betas).vertices, output.vertices, **TOLERANCE)


def test_the_left_hand_as_distributed_matches_too(tmp_path: Path) -> None:
    arrays = mano_files.random_arrays("left")
    official = mano_files.write(tmp_path / "official.pkl", mano_files.official_pickle(arrays))
    hand = HandModel.load(official, correct_left_shapes=False)
    hand.save(tmp_path / "MANO_LEFT.pkl")
    corrected = HandModel.load(official)
    orient, pose, betas = inputs_of(decoder := ManoDecoder(hand, None))
    layer = smplx_layer(tmp_path / "MANO_LEFT.pkl", None, flat_hand_mean=False)
    output = layer(global_orient=orient, hand_pose=pose, betas=betas)
    torch.testing.assert_close(decoder(orient, pose, betas).vertices, output.vertices, **TOLERANCE)

    layer.shapedirs[:, 0] *= -1
    output = layer(global_orient=orient, hand_pose=pose, betas=betas)
    torch.testing.assert_close(ManoDecoder(corrected, None)(orient, pose, betas).vertices, output.vertices, **TOLERANCE)


def test_shape_components_left_out_are_zero() -> None:
    hand = HandModel.load()
    fewer, all_of_them = ManoDecoder(hand, shape_components=3), ManoDecoder(hand)
    orient, pose, betas = inputs_of(fewer)
    padded = torch.cat([betas, torch.zeros(COUNT, 7)], 1)
    torch.testing.assert_close(fewer(orient, pose, betas).vertices, all_of_them(orient, pose, padded).vertices)
