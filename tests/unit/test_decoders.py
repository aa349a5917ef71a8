import copy
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from hamr_lightning.decoders import JointDecoder, ManoDecoder, ManopthDecoder, _check_shapes
from hamr_lightning.hand_model import HandModel, HandModelError
from hamr_lightning.registry import build
from hamr_lightning.skeleton import FINGERTIP_VERTICES, FINGERTIPS


def parameters(decoder: ManoDecoder, count: int = 3, scale: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = (decoder.orient_size, decoder.pose_size, decoder.shape_size)
    orient, pose, betas = (torch.randn(count, width, generator=generator) * scale for width in widths)
    return orient, pose, betas


@pytest.fixture(scope="module")
def decoder() -> ManoDecoder:
    return ManoDecoder()


def test_sizes() -> None:
    decoder = build("decoder", "mano")
    assert (decoder.orient_size, decoder.pose_size, decoder.shape_size) == (3, 6, 10)
    mesh = decoder(*parameters(decoder))
    assert mesh.vertices.shape == (3, 778, 3)
    assert mesh.joints.shape == (3, 21, 3)
    assert decoder.faces.shape == (1538, 3)
    decoder = ManoDecoder(pose_components=None, shape_components=4)
    assert (decoder.pose_size, decoder.shape_size) == (45, 4)
    assert decoder(*parameters(decoder, count=0)).vertices.shape == (0, 778, 3)


@pytest.mark.parametrize("joint_source", ["mesh", "chain"])
def test_at_rest_it_is_the_template(joint_source: str) -> None:
    hand = HandModel.load()
    decoder = ManoDecoder(hand, pose_components=None, flat_hand_mean=True, joint_source=joint_source)
    mesh = decoder(*parameters(decoder, count=1, scale=0))
    np.testing.assert_allclose(mesh.vertices[0], hand.vertices, atol=1e-7)
    np.testing.assert_allclose(mesh.joints[0, [0, 5, 17]], (hand.joint_regressor @ hand.vertices)[[0, 1, 7]], atol=1e-7)
    np.testing.assert_allclose(mesh.joints[0, [4, 8, 12, 16, 20]], hand.vertices[hand.fingertips], atol=1e-7)


@pytest.mark.parametrize("joint_source", ["mesh", "chain"])
def test_the_whole_hand_turns_about_the_wrist_joint(joint_source: str) -> None:
    decoder = ManoDecoder(joint_source=joint_source)
    chain = ManoDecoder(joint_source="chain")
    orient, pose, betas = parameters(decoder)
    still, turned = decoder(torch.zeros_like(orient), pose, betas), decoder(orient, pose, betas)
    wrist = chain(orient, pose, betas).joints[:, :1]
    torch.testing.assert_close(chain(torch.zeros_like(orient), pose, betas).joints[:, :1], wrist)
    rotations = torch.tensor(Rotation.from_rotvec(orient.numpy()).as_matrix(), dtype=torch.float32)
    for before, after in ((still.vertices, turned.vertices), (still.joints, turned.joints)):
        torch.testing.assert_close((before - wrist) @ rotations.mT + wrist, after, rtol=0, atol=1e-6)


def test_gradients_at_zero_are_finite_and_not_zero(decoder: ManoDecoder) -> None:
    inputs = [x.requires_grad_() for x in parameters(decoder, scale=0)]
    mesh = decoder(*inputs)
    weights = torch.randn(mesh.vertices.shape, generator=torch.Generator().manual_seed(1))
    for gradient in torch.autograd.grad((mesh.vertices * weights).sum() + mesh.joints.square().sum(), inputs):
        assert gradient.isfinite().all()
        assert gradient.abs().min() > 0


@pytest.mark.parametrize("point", [0.0, 0.7])
@pytest.mark.parametrize("joint_source", ["mesh", "chain"])
def test_gradcheck(joint_source: str, point: float) -> None:
    decoder = ManoDecoder(joint_source=joint_source).double()
    inputs = [x.double().requires_grad_() for x in parameters(decoder, count=1, scale=point)]

    weights = torch.randn(799 * 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def decode(*inputs: Tensor) -> Tensor:
        mesh = decoder(*inputs)
        return torch.cat([mesh.vertices, mesh.joints], 1).flatten() @ weights

    assert torch.autograd.gradcheck(decode, inputs)


@pytest.mark.parametrize("joint_source", ["mesh", "chain"])
def test_torchs_operations_say_the_same(joint_source: str) -> None:
    decoder = ManoDecoder(joint_source=joint_source, pose_components=None, shape_components=4).double()
    stored = torch.randn(5, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    inputs = stored[:, 50:53], stored[:, :45], stored[:, 53:57]
    mesh, (vertices, joints) = decoder(*inputs), decoder.decode_by_torch(*inputs)
    torch.testing.assert_close((mesh.vertices, mesh.joints), (vertices, joints), rtol=0, atol=1e-14)
    losses = {
        "all": lambda vertices, joints: vertices.mT.square().sum() + joints.square().sum(),
        "expanded": lambda vertices, joints: vertices.sum() + joints.sum(),
        "vertices": lambda vertices, joints: vertices[2:].square().sum(),
        "joints": lambda vertices, joints: joints.square().sum(),
    }
    for loss in losses.values():
        (found,) = torch.autograd.grad(loss(mesh.vertices, mesh.joints), stored, retain_graph=True)
        (expected,) = torch.autograd.grad(loss(vertices, joints), stored, retain_graph=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("point", [0.0, 0.7])
def test_gradients_can_be_differentiated(point: float) -> None:
    decoder = ManoDecoder().double()
    inputs = [x.double().requires_grad_() for x in parameters(decoder, count=1, scale=point)]

    def some_numbers(*inputs: Tensor) -> Tensor:
        mesh = decoder(*inputs)
        return torch.cat([mesh.vertices[0, ::200], mesh.joints[0, ::7]])

    assert torch.autograd.gradgradcheck(some_numbers, inputs)


@pytest.mark.parametrize("create_graph", [False, True])
def test_each_input_can_need_a_gradient_alone(decoder: ManoDecoder, create_graph: bool) -> None:
    inputs = parameters(decoder)
    assert not decoder(*inputs).vertices.requires_grad
    expected = torch.autograd.grad(decoder(*(x.requires_grad_() for x in inputs)).vertices.square().sum(), inputs)
    for k in range(3):
        alone = [x.detach() for x in inputs]
        alone[k].requires_grad_()
        loss = decoder(*alone).vertices.square().sum()
        (found,) = torch.autograd.grad(loss, alone[k], create_graph=create_graph)
        torch.testing.assert_close(found, expected[k])


@pytest.mark.parametrize("create_graph", [False, True])
def test_inputs_that_depend_on_each_other_are_counted_once(create_graph: bool) -> None:
    decoder = ManoDecoder(pose_components=10).double()
    shared = torch.linspace(-0.5, 0.5, 10, dtype=torch.float64).reshape(1, 10).requires_grad_()
    inputs = shared[:, :3], shared, shared
    gradients = [
        torch.autograd.grad(joints.square().sum(), shared, create_graph=graph)[0]
        for joints, graph in (
            (decoder(*inputs).joints, create_graph),
            (decoder.decode_by_torch(*inputs)[1], False),
        )
    ]
    torch.testing.assert_close(*gradients)


def test_copies_decode_alike(decoder: ManoDecoder) -> None:
    inputs = parameters(decoder)
    for copied in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert torch.equal(copied(*inputs).vertices, decoder(*inputs).vertices)


def test_autocast_and_half_precision_inputs_change_nothing(decoder: ManoDecoder) -> None:
    inputs = [x.bfloat16() for x in parameters(decoder)]
    expected = decoder(*(x.float() for x in inputs))
    with torch.autocast("cpu", torch.bfloat16):
        mesh = decoder(*inputs)
    assert mesh.vertices.dtype == mesh.joints.dtype == torch.float32
    assert torch.equal(mesh.vertices, expected.vertices)
    assert torch.equal(mesh.joints, expected.joints)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_to_half_precision_changes_nothing(decoder: ManoDecoder, dtype: torch.dtype) -> None:
    inputs = parameters(decoder)
    cast = torch.nn.Sequential(ManoDecoder(), torch.nn.Linear(1, 1)).to(dtype)
    assert cast[1].weight.dtype == dtype
    assert torch.equal(cast[0](*inputs).vertices, decoder(*inputs).vertices)
    assert cast.double()[0](*inputs).vertices.dtype == torch.float64


def test_a_spoiled_sample_spoils_no_other(decoder: ManoDecoder) -> None:
    orient, pose, betas = parameters(decoder)
    expected = decoder(orient, pose, betas)
    pose[1, 2] = torch.nan
    mesh = decoder(orient, pose, betas)
    assert mesh.vertices[1].isnan().all()
    torch.testing.assert_close(mesh.vertices[::2], expected.vertices[::2])
    torch.testing.assert_close(mesh.joints[::2], expected.joints[::2])

    mesh = decoder(orient, pose.requires_grad_(), betas)
    (gradient,) = torch.autograd.grad(mesh.vertices.sum() + mesh.joints.sum(), pose)
    assert gradient[::2].isfinite().all()
    assert gradient[1].isnan().all()


def test_full_pose_is_what_the_axis_angle_decoder_takes(decoder: ManoDecoder) -> None:
    orient, pose, betas = parameters(decoder)
    plain = ManoDecoder(pose_components=None, flat_hand_mean=True)
    torch.testing.assert_close(
        plain(orient, decoder.full_pose(pose), betas).vertices, decoder(orient, pose, betas).vertices
    )


def test_a_checkpoint_holds_nothing_of_the_hand(decoder: ManoDecoder) -> None:
    assert not decoder.state_dict()
    assert not list(decoder.parameters())


COMPILED = """
import torch
from hamr_lightning.decoders import ManoDecoder
decoder, inputs = ManoDecoder(), [torch.full((2, width), 0.1) for width in (3, 6, 10)]
compiled = torch.compile(decoder, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(*inputs).vertices, decoder(*inputs).vertices)
"""


def test_compiles_without_a_graph_break() -> None:
    # In a process of its own: the test suite's checks of shapes are no part of what users compile, and do break it.
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_decodes_as_on_a_cpu(decoder: ManoDecoder) -> None:
    inputs = parameters(decoder)
    expected = decoder(*inputs)
    with torch.autocast("cuda", torch.bfloat16):
        mesh = ManoDecoder().cuda()(*(x.cuda() for x in inputs))
    torch.testing.assert_close(mesh.vertices.cpu(), expected.vertices, rtol=0, atol=1e-6)
    torch.testing.assert_close(mesh.joints.cpu(), expected.joints, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pose_components": 0}, "pose_components must be 1 to 45, got 0"),
        ({"pose_components": 46}, "pose_components must be 1 to 45, got 46"),
        ({"shape_components": 11}, "shape_components must be 1 to 10, got 11"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ManoDecoder(**arguments)


@pytest.mark.parametrize("convention", ["hamr", "freihand", "ho3d"])
@pytest.mark.parametrize("joint_source", ["mesh", "chain"])
def test_finger_tips_are_the_vertices_of_a_convention(convention: str, joint_source: str) -> None:
    decoder = ManoDecoder(fingertips=convention, joint_source=joint_source)
    mesh = decoder(torch.zeros(1, 3), torch.zeros(1, 6), torch.zeros(1, 10))
    tips = mesh.vertices[:, list(FINGERTIP_VERTICES[convention])]
    torch.testing.assert_close(mesh.joints[:, list(FINGERTIPS)], tips, atol=1e-6, rtol=0)
    assert decoder.hand.fingerprint == HandModel.load("open", fingertips=convention).fingerprint


def test_a_bad_hand_is_named() -> None:
    with pytest.raises(HandModelError, match=r"nowhere\.pkl"):
        ManoDecoder("nowhere.pkl")


@pytest.mark.parametrize("spoiled", ["global_orient", "hand_pose", "betas"])
def test_a_wrong_width_is_named(decoder: ManoDecoder, spoiled: str) -> None:
    inputs = dict(zip(("global_orient", "hand_pose", "betas"), parameters(decoder), strict=True))
    inputs[spoiled] = torch.zeros(3, 45)
    with pytest.raises(ValueError, match=f"{spoiled}: ManoDecoder takes .* numbers a hand, got 45"):
        decoder(**inputs)


def test_another_number_of_hands_is_named(decoder: ManoDecoder) -> None:
    # Not by a call of the decoder, where the test suite's checks of shapes come first.
    shapes = {"global_orient": torch.zeros(3, 3), "hand_pose": torch.zeros(1, 6), "betas": torch.zeros(3, 10)}
    with pytest.raises(ValueError, match="hand_pose is of 1 hands, but global_orient of 3"):
        _check_shapes(decoder, **shapes)


def test_joint_decoder() -> None:
    decoder = build("decoder", "joints")
    assert isinstance(decoder, JointDecoder)
    assert (decoder.orient_size, decoder.pose_size, decoder.shape_size, decoder.faces) == (0, 63, 0, None)
    pose = torch.randn(2, 63, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    mesh = decoder(torch.zeros(2, 0), pose, torch.zeros(2, 0))
    assert mesh.vertices.shape == (2, 0, 3)
    assert mesh.joints.dtype == torch.float32
    expected = pose.float().reshape(2, 21, 3)
    assert torch.equal(mesh.joints, expected - expected[:, :1])
    with pytest.raises(ValueError, match="hand_pose: JointDecoder takes 63"):
        decoder(torch.zeros(2, 0), pose[:, :6], torch.zeros(2, 0))


@pytest.mark.skipif(importlib.util.find_spec("manopth") is not None, reason="manopth is installed")
def test_without_manopth_the_mend_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"needs the packages manopth and chumpy .* or use the decoder 'mano'"):
        ManopthDecoder(tmp_path)


def test_function_transforms_see_torch_s_operations() -> None:
    decoder = ManoDecoder().double()
    orient, pose, betas = (x.double() for x in parameters(decoder, count=2))
    jacobian = torch.func.jacrev(lambda x: decoder(orient, x, betas).joints)(pose)
    expected = torch.autograd.functional.jacobian(lambda x: decoder(orient, x, betas).joints, pose)
    torch.testing.assert_close(jacobian, expected)
