"""Decoders: from hand parameters to a mesh and joints."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hamr_lightning import _mano_kernels
from hamr_lightning._mano_autograd import fused_decode
from hamr_lightning.hand_model import HandModel
from hamr_lightning.registry import register
from hamr_lightning.rotations import rotation_matrix
from hamr_lightning.skeleton import JOINT_COUNT, MANO_TO_JOINTS, ROOT
from hamr_lightning.types import HandMesh

_POSE_SIZE: Final = 45
_SHAPE_SIZE: Final = 10


class Decoder(nn.Module, ABC):
    """Turns hand parameters into a mesh and 21 joints.

    Attributes:
        orient_size, pose_size, shape_size: Widths of ``global_orient``, ``hand_pose`` and ``betas``; 0 where unused.
        faces: The mesh's triangles, or None where there is no mesh.
        side: Which hand it is.
    """

    orient_size: int
    pose_size: int
    shape_size: int
    faces: Int[Tensor, "f 3"] | None
    side: Literal["right", "left"] = "right"

    @abstractmethod
    def forward(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> HandMesh:
        """Return vertices and joints in metres (see :class:`HandMesh`)."""


@final
@register("decoder", "mano")
class ManoDecoder(Decoder):
    """MANO: blend shapes, linear blend skinning, and joints (paper, Eqs. 1 to 3).

    It computes in its own precision, float32 unless cast to float64, whatever the inputs' and whatever the autocast.
    Casts to less are left out, as they would move the mesh by a millimetre.
    The hand's arrays are float32 constants that no checkpoint contains: MANO's may not be passed on.
    The first call on a device compiles for some seconds and keeps the result on disk; torch.compile sees torch's own
    operations.

    Args:
        hand: A hand model, or what :meth:`HandModel.load` takes as its source.
        pose_components: How many principal components ``hand_pose`` holds, 1 to 45; None for 45 axis-angle numbers.
        shape_components: How many shape numbers ``betas`` holds, 1 to 10.
        flat_hand_mean: Whether a zero ``hand_pose`` is the hand model's rest pose instead of its mean pose.
        joint_source: "mesh" regresses the joints from the posed mesh (paper, Eq. 3); "chain" gives the posed kinematic
            chain's, as smplx and manopth do. The finger tips are the hand model's vertices either way.
        fingertips: By whose convention vertices serve as finger tips ("freihand" or "ho3d" for these data sets, see
            :data:`hamr_lightning.skeleton.FINGERTIP_VERTICES`); None for the hand's own, which is "hamr" for a file.

    Raises:
        ValueError: If a number of components or ``joint_source`` is not one of these.
        HandModelError: If the hand model does not load.
    """

    faces: Tensor
    pose_components: Tensor
    pose_mean: Tensor
    identity: Tensor
    template: Tensor
    directions: Tensor
    rest_joints: Tensor
    joint_directions: Tensor
    skinning_weights: Tensor
    joint_weights: Tensor
    chain_weights: Tensor

    def __init__(
        self,
        hand: HandModel | str | Path = "open",
        pose_components: int | None = 6,
        shape_components: int = _SHAPE_SIZE,
        flat_hand_mean: bool = False,
        joint_source: Literal["mesh", "chain"] = "mesh",
        fingertips: str | None = None,
    ) -> None:
        super().__init__()
        self.orient_size = 3
        self.pose_size = _POSE_SIZE if pose_components is None else pose_components
        self.shape_size = shape_components
        _check_range("pose_components", self.pose_size, _POSE_SIZE)
        _check_range("shape_components", self.shape_size, _SHAPE_SIZE)
        if joint_source not in ("mesh", "chain"):
            raise ValueError(f'joint_source must be "mesh" or "chain", got {joint_source!r}')
        model = hand if isinstance(hand, HandModel) else HandModel.load(hand)
        self.hand = model if fingertips is None else model.with_fingertips(fingertips)
        self.side = self.hand.side
        self.joint_source = joint_source

        shape_directions = self.hand.shape_directions[..., : self.shape_size]
        directions = np.concatenate([shape_directions, self.hand.pose_directions], axis=2)
        regressor = self.hand.joint_regressor
        order = list(MANO_TO_JOINTS)
        tips = np.eye(len(self.hand.vertices))[self.hand.fingertips]
        components = np.eye(_POSE_SIZE) if pose_components is None else self.hand.pose_components[: self.pose_size]
        arrays = {
            "pose_components": components,
            "pose_mean": self.hand.pose_mean * (not flat_hand_mean),
            "identity": np.eye(3),
            # Coordinates come before vertices in all of these: then the blending is one matrix product, and the
            # skinning another and an elementwise one along contiguous vertices.
            "template": self.hand.vertices.T.reshape(-1),
            "directions": directions.transpose(2, 1, 0).reshape(directions.shape[2], -1),
            "rest_joints": (regressor @ self.hand.vertices).reshape(-1),
            "joint_directions": np.einsum("jv,vcs->sjc", regressor, shape_directions).reshape(self.shape_size, -1),
            "skinning_weights": self.hand.skinning_weights.T,
            "joint_weights": np.concatenate([regressor * (joint_source == "mesh"), tips])[order].T,
            "chain_weights": (np.eye(21, 16) * (joint_source == "chain"))[order].T,
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32).contiguous(), persistent=False)
        of_pose = (arrays[name] for name in ("pose_mean", "pose_components", "rest_joints", "joint_directions"))
        chain_places = np.argsort(MANO_TO_JOINTS)[: 16 * (joint_source == "chain")]
        self.pose_arrays = tuple(np.ascontiguousarray(array, np.float32) for array in of_pose), chain_places
        self.skin_arrays = (
            _mano_kernels.skinning_spans(self.hand.skinning_weights),
            _mano_kernels.compressed_rows(arrays["joint_weights"].T),
        )
        self.register_buffer("faces", torch.tensor(self.hand.faces), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ManoDecoder":
        def keep_precision(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            is_half = applied.is_floating_point() and applied.element_size() < 4
            return tensor.to(applied.device) if is_half else applied

        return super()._apply(keep_precision, recurse)

    def full_pose(self, hand_pose: Float[Tensor, "b p"]) -> Float[Tensor, "b 45"]:
        """Return the 15 finger joints' axis-angle rotations in radians, the mean pose contained."""
        with torch.autocast(hand_pose.device.type, enabled=False):
            return torch.addmm(self.pose_mean, hand_pose.to(self.pose_mean.dtype), self.pose_components)

    def forward(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> HandMesh:
        """Decode hands.

        Args:
            global_orient: Axis-angle rotation about the wrist joint, radians.
            hand_pose: Principal components' coefficients, or axis-angle rotations in radians.
            betas: Shape, in standard deviations.

        Returns:
            Vertices and joints in metres. NaN in a sample's parameters gives NaN in that sample.

        Raises:
            ValueError: If an argument has another width than the decoder's, or is not of as many hands as the others.
        """
        _check_shapes(self, global_orient=global_orient, hand_pose=hand_pose, betas=betas)
        inputs = [x.to(self.template.dtype) for x in (global_orient, hand_pose, betas)]
        fused = fused_decode(self.template, *inputs)
        vertices, joints = fused.apply(self, *inputs) if fused else self.decode_by_torch(*inputs)
        return HandMesh(vertices=vertices, joints=joints)

    def decode_by_torch(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b 21 3"]]:
        """Return vertices and joints as :meth:`forward` does, by torch's operations one by one.

        They can be compiled, exported, and differentiated more than once. The inputs are in the decoder's precision.
        """
        with torch.autocast(global_orient.device.type, enabled=False):
            pose = torch.cat([global_orient, self.full_pose(hand_pose)], 1)
            rotations = rotation_matrix(pose.unflatten(1, (16, 3)))
            features = torch.cat([betas, (rotations[:, 1:] - self.identity).flatten(1)], 1)
            surface = torch.addmm(self.template, features, self.directions).unflatten(1, (3, -1))
            rest = torch.addmm(self.rest_joints, betas, self.joint_directions).unflatten(1, (16, 3))
            turned, chain = _pose_chain(rotations, rest)
            vertices = self._skin(surface, turned, chain - (turned @ rest[..., None])[..., 0])
            joints = vertices @ self.joint_weights + chain.mT @ self.chain_weights
        return vertices.mT.contiguous(), joints.mT.contiguous()

    def _skin(self, surface: Tensor, turned: Tensor, moved: Tensor) -> Tensor:
        transforms = torch.cat([turned, moved[..., None]], -1).permute(0, 2, 3, 1)
        blended = transforms @ self.skinning_weights
        return (blended[:, :, :3] * surface[:, None]).sum(2) + blended[:, :, 3]


@final
@register("decoder", "manopth")
class ManopthDecoder(Decoder):
    """manopth's ManoLayer: its finger tips, its kinematic chain's joints, and its file reader.

    That reader needs chumpy, and runs whatever code a pickle contains.

    Args:
        mano_root: The folder that holds ``MANO_RIGHT.pkl`` and ``MANO_LEFT.pkl``.
        side: "right" or "left".
        pose_components: How many principal components ``hand_pose`` holds, 1 to 45; None for 45 axis-angle numbers.
        flat_hand_mean: Whether a zero ``hand_pose`` is the rest pose instead of the mean pose.

    Raises:
        ImportError: If manopth is not installed.
        ValueError: If an argument is not one of these.
    """

    faces: Tensor
    orient_size = 3
    shape_size = _SHAPE_SIZE

    def __init__(
        self,
        mano_root: str | Path,
        side: Literal["right", "left"] = "right",
        pose_components: int | None = 6,
        flat_hand_mean: bool = True,
    ) -> None:
        super().__init__()
        self.pose_size = _POSE_SIZE if pose_components is None else pose_components
        _check_range("pose_components", self.pose_size, _POSE_SIZE)
        if side not in ("right", "left"):
            raise ValueError(f'side must be "right" or "left", got {side!r}')
        self.side = side
        try:
            from manopth.manolayer import ManoLayer
        except ImportError as error:
            raise ImportError(
                f"the decoder 'manopth' needs the packages manopth and chumpy ({error}); "
                "install them from https://github.com/hassony2/manopth, or use the decoder 'mano'"
            ) from error
        self.layer = ManoLayer(
            mano_root=str(mano_root),
            side=side,
            use_pca=pose_components is not None,
            ncomps=self.pose_size,
            flat_hand_mean=flat_hand_mean,
        )
        for name, buffer in list(self.layer.named_buffers()):
            self.layer.register_buffer(name, buffer, persistent=False)
        self.register_buffer("faces", self.layer.th_faces, persistent=False)

    def forward(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> HandMesh:
        """Decode hands; arguments and errors as :meth:`ManoDecoder.forward`'s."""
        _check_shapes(self, global_orient=global_orient, hand_pose=hand_pose, betas=betas)
        with torch.autocast(global_orient.device.type, enabled=False):
            dtype = self.layer.th_v_template.dtype
            pose = torch.cat([global_orient, hand_pose], 1).to(dtype)
            vertices_mm, joints_mm = self.layer(pose, betas.to(dtype))
        return HandMesh(vertices=vertices_mm / 1000, joints=joints_mm / 1000)


@final
@register("decoder", "joints")
class JointDecoder(Decoder):
    """No mesh: ``hand_pose`` is the 21 joints themselves, in metres (the paper's ablation "w/o mesh", Figure 8)."""

    orient_size = 0
    pose_size = 3 * JOINT_COUNT
    shape_size = 0
    faces = None

    def forward(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> HandMesh:
        """Return the joints relative to the root joint, and no vertices.

        Raises:
            ValueError: If an argument has another width than the decoder's, or is not of as many hands as the others.
        """
        _check_shapes(self, global_orient=global_orient, hand_pose=hand_pose, betas=betas)
        joints = hand_pose.to(torch.promote_types(hand_pose.dtype, torch.float32)).unflatten(1, (JOINT_COUNT, 3))
        return HandMesh(vertices=joints[:, :0], joints=joints - joints[:, ROOT : ROOT + 1])


def _pose_chain(rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Return each joint's rotation (b, 16, 3, 3) and place (b, 16, 3) in the posed kinematic chain.

    MANO's joints are the wrist and then five fingers of three, so that the fingers go down their chains in parallel.
    """
    parent = (rotations[:, :1], rest[:, :1], rest[:, :1])
    local, places = rotations[:, 1:].unflatten(1, (5, 3)), rest[:, 1:].unflatten(1, (5, 3))
    turned, chain = [], []
    for level in range(3):
        parent_turned, parent_rest, parent_place = parent
        bone = (places[:, :, level] - parent_rest)[..., None]
        place = parent_place + (parent_turned @ bone)[..., 0]
        parent = (parent_turned @ local[:, :, level], places[:, :, level], place)
        turned.append(parent[0])
        chain.append(place)
    return (
        torch.cat([rotations[:, :1], torch.stack(turned, 2).flatten(1, 2)], 1),
        torch.cat([rest[:, :1], torch.stack(chain, 2).flatten(1, 2)], 1),
    )


def _check_range(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be 1 to {most}, got {value}")


def _check_shapes(decoder: Decoder, **parameters: Tensor) -> None:
    widths = (decoder.orient_size, decoder.pose_size, decoder.shape_size)
    count = len(parameters["global_orient"])
    for (name, parameter), width in zip(parameters.items(), widths, strict=True):
        if parameter.shape[1] != width:
            raise ValueError(f"{name}: {type(decoder).__name__} takes {width} numbers a hand, got {parameter.shape[1]}")
        if len(parameter) != count:
            raise ValueError(f"{name} is of {len(parameter)} hands, but global_orient of {count}")
