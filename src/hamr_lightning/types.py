"""What flows through the library, and the legend of its axes, frames and units.

* **3D** is in metres, in camera axes: x right, y down, z forward. Predictions and annotation in a batch are relative
  to the root joint (the wrist).
* **2D** is in normalised crop coordinates: x right, y down; the outer edges of the crop are -1 and +1, so that pixel
  i of S has its centre at ``(2 i + 1) / S - 1``. Whatever is in pixels says so in its name (``_px``).
* **Cameras** are weak perspective, ``(s, tx, ty)`` with ``x2d = s (x + tx)``: s in crop units per metre, tx and ty in
  metres (paper, Eq. 5).
* **Rotations** are axis-angle, in radians.
* **Hands** are right hands. A left hand is mirrored on the way in, and its result on the way out.
* **Joints** are in the order of :mod:`hamr_lightning.skeleton`.

Letters in shapes: b batch, v vertices (778), p pose numbers, h and w image height and width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_Record = TypeVar("_Record", bound="_TensorRecord")


class _TensorRecord:
    """Moves a dataclass of tensors (and of such dataclasses) between devices as one thing."""

    def to(self: _Record, *args: Any, **kwargs: Any) -> _Record:
        """Return a copy with every tensor passed through :meth:`torch.Tensor.to`."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self: _Record) -> _Record:
        """Return a copy in page-locked memory."""
        return self.map(lambda tensor: tensor.pin_memory())

    def detach(self: _Record) -> _Record:
        """Return a copy cut off from the autograd graph."""
        return self.map(lambda tensor: tensor.detach())

    def map(self: _Record, function: Callable[[Tensor], Tensor]) -> _Record:
        """Return a copy with every tensor passed through a function, those of records inside it too."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            if isinstance(value, _TensorRecord):
                return value.map(function)
            if isinstance(value, tuple):
                return tuple(apply(item) for item in value)
            return value

        return replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type, type-var]


@dataclass(frozen=True)
class HandParameters(_TensorRecord):
    """What the regressor estimates: a camera and the hand model's parameters.

    A decoder that does not use one of them gives it zero width.
    """

    camera: Float[Tensor, "b 3"]
    global_orient: Float[Tensor, "b orient"]
    hand_pose: Float[Tensor, "b p"]
    betas: Float[Tensor, "b shape"]


@dataclass(frozen=True)
class HandMesh(_TensorRecord):
    """A decoded hand, in metres: MANO's origin, turned by ``global_orient`` about the wrist joint.

    A decoder without a mesh gives zero vertices.
    """

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b 21 3"]


@dataclass(frozen=True)
class HandPrediction(_TensorRecord):
    """What a model says of a batch of crops."""

    vertices: Float[Tensor, "b v 3"]
    """Metres, camera axes, relative to the root joint."""
    joints_3d: Float[Tensor, "b 21 3"]
    """Metres, camera axes, relative to the root joint."""
    joints_2d: Float[Tensor, "b 21 2"]
    """The 3D joints projected by ``camera``, crop units."""
    points: Float[Tensor, "b v 3"]
    """The vertices as the renderer takes them: projected x and y in crop units, z in metres (larger is farther)."""
    parameters: HandParameters
    """The last iteration's estimate."""
    iterations: tuple[HandParameters, ...]
    """Every iteration's estimate, the last one included."""
    heatmaps: Float[Tensor, "b stacks maps hm_h hm_w"]
    """Every stack's heat-maps; the first 21 are the joints'."""
    silhouette: Float[Tensor, "b s s"] | None = None
    """Rendered coverage in [0, 1]; None where the model has no renderer."""

    @property
    def camera(self) -> Float[Tensor, "b 3"]:
        """The estimated weak-perspective camera (s, tx, ty)."""
        return self.parameters.camera


@dataclass(frozen=True)
class HandBatch(_TensorRecord):
    """A batch of crops with whatever annotation it has.

    Annotation may be incomplete in two ways. A field that no sample has may be None. A field that some samples have
    comes with its validity, named ``<field>_valid``: a bool for each sample, for joints one for each joint as well;
    None means that all are valid. Where a value is not valid, it is finite and means nothing.
    """

    image: Float[Tensor, "b 3 h w"]
    """RGB in [0, 1]."""
    joints_2d: Float[Tensor, "b 21 2"] | None = None
    """Crop units."""
    joints_2d_valid: Bool[Tensor, "b 21"] | None = None
    joints_3d: Float[Tensor, "b 21 3"] | None = None
    """Metres, camera axes, relative to the root joint."""
    joints_3d_valid: Bool[Tensor, "b 21"] | None = None
    joints_camera: Float[Tensor, "b 21 3"] | None = None
    """Metres, camera axes, from the camera's centre; also of samples whose root is not annotated."""
    joints_camera_valid: Bool[Tensor, "b 21"] | None = None
    mask: Float[Tensor, "b h w"] | None = None
    """1 on the hand, 0 elsewhere, at the crop's resolution."""
    mask_valid: Bool[Tensor, "b"] | None = None
    vertices: Float[Tensor, "b v 3"] | None = None
    """Metres, camera axes, relative to the root joint."""
    vertices_valid: Bool[Tensor, "b"] | None = None
    global_orient: Float[Tensor, "b 3"] | None = None
    global_orient_valid: Bool[Tensor, "b"] | None = None
    hand_pose: Float[Tensor, "b 45"] | None = None
    """The 15 finger joints' full axis-angle rotations: the hand model's mean pose is contained, not to be added."""
    hand_pose_valid: Bool[Tensor, "b"] | None = None
    betas: Float[Tensor, "b 10"] | None = None
    betas_valid: Bool[Tensor, "b"] | None = None
    mirrored: Bool[Tensor, "b"] | None = None
    """True where a left hand was mirrored into a right one."""
    crop_to_image: Float[Tensor, "b 2 3"] | None = None
    """The affine map from crop units, of the unmirrored crop, to pixels of the source image."""
    image_size_px: Float[Tensor, "b 2"] | None = None
    """Width and height of the source image."""
    sources: tuple[str, ...] = ()
    """Where each sample came from, for messages: a file, or a seed."""
    skipped: tuple[str, ...] = ()
    """What was wrong with each sample that could not be read and is therefore not in the batch."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.image)

    def validity(self, name: str) -> Bool[Tensor, "b *joints"]:
        """Return ``<name>_valid`` of a field that is not None: for each sample, of joints for each joint as well."""
        valid = getattr(self, f"{name}_valid")
        if valid is not None:
            return valid
        field = getattr(self, name)
        return torch.ones(field.shape[: 2 if name.startswith("joints") else 1], dtype=torch.bool, device=field.device)

    def has(self, *names: str) -> Bool[Tensor, "b"]:
        """Tell for each sample whether it has all the named fields; of joints, at least one valid."""
        present = torch.ones(len(self), dtype=torch.bool, device=self.image.device)
        for name in names:
            if getattr(self, name) is None:
                return torch.zeros_like(present)
            valid = getattr(self, f"{name}_valid")
            if valid is not None:
                present = present & valid.reshape(len(self), -1).any(dim=1)
        return present

    @classmethod
    def concatenate(cls, batches: "Sequence[HandBatch]") -> "HandBatch":
        """Join batches end to end.

        Raises:
            ValueError: If there is none, or a field is present in some and None in others.
        """
        if not batches:
            raise ValueError("HandBatch.concatenate needs at least one batch, got none")
        joined: dict[str, Any] = {
            name: tuple(text for batch in batches for text in getattr(batch, name)) for name in ("sources", "skipped")
        }
        for name in (f.name for f in fields(cls) if f.name not in joined):
            values = [getattr(batch, name) for batch in batches]
            absent = [value is None for value in values]
            if any(absent) and not all(absent):
                raise ValueError(
                    f"HandBatch.{name} is None in {sum(absent)} of {len(values)} batches; "
                    f"give it everywhere, with {name}_valid false where it is missing"
                )
            joined[name] = None if all(absent) else torch.cat(values)
        return cls(**joined)
