"""The look of skin: its colour from melanin and blood, and a hand's palm, creases, knuckles and nails."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from hamr_lightning.data.rendering.textures import TextureBank, noise, per_texel
from hamr_lightning.hand_model import HandModel
from hamr_lightning.rasterizer import vertex_normals

_BLOODLESS: Final = np.array([0.80, 0.62, 0.49], np.float32)
_MELANIN_ABSORPTION: Final = np.array([0.85, 1.30, 1.75], np.float32)
_BLOOD_ABSORPTION: Final = np.array([0.06, 0.45, 0.38], np.float32)

_VARIANTS: Final = 4
_BACKS: Final = np.array([(0.0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (1, 1, 1)])
"""Where each finger's nail faces at rest."""


def skin_reflectance(melanin: Float[np.ndarray, "*n"], blood: Float[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n 3"]:
    """Return linear RGB reflectance by the law of Beer and Lambert.

    Args:
        melanin: From 0 (palest) over 0.8 (brown) to 2 (darkest).
        blood: From 0 (none) over 0.5 (usual) to 1.5 (flushed).
    """
    absorbance = np.multiply.outer(_MELANIN_ABSORPTION, melanin) + np.multiply.outer(_BLOOD_ABSORPTION, blood)
    return (np.moveaxis(np.exp(-absorbance), 0, -1) * _BLOODLESS).astype(np.float32, order="C")


@dataclass(frozen=True)
class HandPaint:
    """What distinguishes the parts of a hand's skin."""

    melanin: Float32[np.ndarray, "v"]
    """Factor on the skin's melanin: palms have less."""
    blood: Float32[np.ndarray, "v"]
    """Added to the skin's blood: palms, finger tips and knuckles have more."""
    texture_rows: tuple[int, ...]
    """Where textures begin that have the same creases and nails on skin mottled in different ways."""


def paint_hand(hand: HandModel, bank: TextureBank, rng: np.random.Generator) -> HandPaint:
    """Paint a right hand."""
    normals = vertex_normals(hand.vertices, hand.faces)
    anatomy = _Anatomy(hand.joint_regressor @ hand.vertices, hand.vertices[hand.fingertips[[1, 2, 4, 3, 0]]])
    skin = _Surface(hand.vertices, normals, _finger_shares(hand.skinning_weights))
    texels = _Surface(*(per_texel(values, hand.faces) for values in (skin.points, skin.normals, skin.shares)))

    dorsal = np.clip(0.5 + 1.5 * skin.facing_back(), 0, 1)
    wrist, middle = anatomy.joints[[0, 4]]
    from_wrist = (skin.points - wrist) @ (middle - wrist) / np.sum((middle - wrist) ** 2)
    palmar = (1 - dorsal) * np.clip(3 * from_wrist, 0, 1)
    tips = _near(skin.points, anatomy.tips, 0.013).max(axis=1)
    knuckles = _near(skin.points, anatomy.joints[1:], 0.012).max(axis=1)
    nails = _nails(texels, anatomy)
    creases = _creases(texels, anatomy, rng) * (1 - nails)
    return HandPaint(
        melanin=(1 - 0.65 * palmar).astype(np.float32),
        blood=(0.25 * palmar + 0.4 * tips + 0.3 * knuckles * dorsal).astype(np.float32),
        texture_rows=tuple(
            bank.add(0.45 * nails - 0.55 * creases + (1 - nails) * mottling(texels.points, rng), nails)
            for _ in range(_VARIANTS)
        ),
    )


def mottling(points: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float32[np.ndarray, "n"]:
    """Return the uneven lightness of plain skin, in metres."""
    coarse, middle, fine = (noise(points, cell, rng) for cell in (0.016, 0.005, 0.0015))
    return 0.14 * coarse + 0.1 * middle + 0.08 * fine


@dataclass(frozen=True)
class _Anatomy:
    joints: Float[np.ndarray, "16 3"]
    tips: Float[np.ndarray, "5 3"]
    """In the order of MANO's joints, the thumb last."""

    def chain(self, finger: int) -> Float[np.ndarray, "4 3"]:
        return np.concatenate([self.joints[3 * finger + 1 : 3 * finger + 4], self.tips[finger : finger + 1]])


@dataclass(frozen=True)
class _Surface:
    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    shares: Float[np.ndarray, "n 6"]
    """Each finger's hold on the point, and the palm's."""

    def facing_back(self) -> Float[np.ndarray, "n"]:
        """How far the surface faces where nails do, from -1 to 1."""
        backs = np.concatenate([_BACKS, [(0, 1, 0)]])
        direction = self.shares @ (backs / np.linalg.norm(backs, axis=1, keepdims=True))
        return np.einsum("nk,nk->n", self.normals, direction)


def _finger_shares(skinning_weights: Float[np.ndarray, "v 16"]) -> Float[np.ndarray, "v 6"]:
    fingers = skinning_weights[:, 1:].reshape(-1, 5, 3).sum(axis=2)
    return np.concatenate([fingers, skinning_weights[:, :1]], axis=1)


def _near(
    points: Float[np.ndarray, "n 3"], centres: Float[np.ndarray, "m 3"], radius: float
) -> Float[np.ndarray, "n m"]:
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    return np.exp(-((distances / radius) ** 2))


def _creases(surface: _Surface, anatomy: _Anatomy, rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """How deep the lines of the palm, the finger joints' creases and their wrinkled backs are, from 0 to 1."""
    wobble = 0.0007 * noise(surface.points, 0.004, rng)
    back = surface.facing_back()
    depth = _palm_lines(surface, anatomy, wobble)
    for finger in range(5):
        near = np.flatnonzero(surface.shares[:, finger] > 0.05)
        chain = anatomy.chain(finger)
        for joint in range(3):
            bone = chain[joint + 1] - chain[joint]
            length = np.linalg.norm(bone)
            along = (surface.points[near] - chain[joint]) @ (bone / length) + wobble[near]
            crease = _line(along - (0.5 * length if joint == 0 else 0), 0.0006) * np.clip(-2 * back[near], 0, 1)
            wrinkles = (0.5 + 0.5 * np.cos(2 * np.pi * along / 0.0022)) * _line(along, 0.0045)
            share = np.clip(2 * surface.shares[near, finger], 0, 1)
            lines = np.maximum(crease, 0.6 * np.clip(1.5 * back[near], 0, 1) * wrinkles) * share
            depth[near] = np.maximum(depth[near], lines)
    return depth


def _line(distance: Float[np.ndarray, "n"], width: float) -> Float[np.ndarray, "n"]:
    return np.exp(-((distance / width) ** 2))


def _palm_lines(surface: _Surface, anatomy: _Anatomy, wobble: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The lines of heart, head and life, as curves in the plane of the palm."""
    wrist, index, middle, pinky, thumb = anatomy.joints[[0, 1, 4, 7, 13]]
    curves = [
        (pinky + 0.2 * (wrist - pinky) + 0.25 * (pinky - index), middle, index + 0.5 * (middle - index)),
        (index + 0.25 * (thumb - index), 0.55 * middle + 0.45 * wrist, 0.6 * pinky + 0.4 * wrist),
        (index + 0.25 * (thumb - index), 0.6 * middle + 0.4 * wrist, 0.8 * wrist + 0.2 * thumb),
    ]
    t = np.linspace(0, 1, 60)[:, None]
    flat = [0, 2]
    dense = np.concatenate([(1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c for a, b, c in curves])[:, flat]
    distance, _ = cKDTree(dense).query(surface.points[:, flat], distance_upper_bound=0.005)
    facing = np.clip(-2 * surface.normals[:, 1], 0, 1)
    reach = np.where(surface.shares[:, :4].max(axis=1) < 0.7, facing, 0)
    return reach * _line(np.minimum(distance, 1) + wobble, 0.001)


def _nails(surface: _Surface, anatomy: _Anatomy) -> Float[np.ndarray, "n"]:
    """1 on the nails, 0 elsewhere, with soft edges."""
    nail = np.zeros(len(surface.points))
    for finger in range(5):
        near = np.flatnonzero(surface.shares[:, finger] > 0.9)
        joint, tip = anatomy.chain(finger)[2:]
        length = np.linalg.norm(tip - joint)
        bone = (tip - joint) / length
        side = np.cross(bone, _BACKS[finger])
        side /= np.linalg.norm(side)
        place = surface.points[near] - (tip - 0.3 * length * bone)
        half_width = 0.0052 if finger < 4 else 0.0065
        rim = ((place @ bone) / (0.28 * length)) ** 4 + ((place @ side) / half_width) ** 4
        facing = surface.normals[near] @ np.cross(side, bone)
        nail[near] = np.clip(1.2 - rim, 0, 1) * np.clip(4 * facing - 1, 0, 1)
    return nail
