"""Decoders: from hand parameters to a mesh and joints."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

from hamr_lightning.types import HandMesh


class Decoder(nn.Module, ABC):
    """Turns hand parameters into a mesh and 21 joints.

    Attributes:
        orient_size, pose_size, shape_size: Widths of ``global_orient``, ``hand_pose`` and ``betas``; 0 where unused.
        faces: The mesh's triangles, or None where there is no mesh.
    """

    orient_size: int
    pose_size: int
    shape_size: int
    faces: Int[Tensor, "f 3"] | None

    @abstractmethod
    def forward(
        self,
        global_orient: Float[Tensor, "b orient"],
        hand_pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "b shape"],
    ) -> HandMesh:
        """Return vertices and joints in metres (see :class:`HandMesh`)."""
