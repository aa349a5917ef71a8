"""Rendered hands: data without end, with complete annotation, from no file."""

import math
from typing import Final, Literal, no_type_check

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hamr_lightning.compiled import compiled
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.pinhole import camera_matrix, project
from hamr_lightning.data.poses import sample_hand_poses
from hamr_lightning.data.rendering.articulation import ArticulatedHand
from hamr_lightning.data.rendering.lens import Lens
from hamr_lightning.data.rendering.scene import Scene, Stage
from hamr_lightning.data.rendering.scenery import Photographs, procedural_background
from hamr_lightning.data.rendering.shading import (
    SAMPLES_PER_SIDE,
    Lights,
    Surface,
    coverage,
    irradiance,
    paint,
    soft_visibility,
)
from hamr_lightning.data.rendering.textures import Texture
from hamr_lightning.data.turns import rotation_matrix, rotation_vector, turn_between
from hamr_lightning.hand_model import HandModel
from hamr_lightning.rasterizer import Visibility, draw, front_facing
from hamr_lightning.registry import register

_SPLIT_STREAMS: Final = {"train": 0, "val": 1}
_MOST_SHAPE: Final = 2.5
_NEAREST: Final = 0.3
_HAND: Final = slice(778)
_TOWARDS_CAMERA, _FROM_CAMERA = -0.6, 0.95
_UPRIGHT: Final = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""From the rest hand's axes to the camera's: fingers up, palm to the camera."""
_STEEPEST: Final = 2.0
"""How much farther a surface lies a pixel on, in pixels' widths, if it is seen as one."""
_SKIN_WRAP: Final = np.array([0.35, 0.2, 0.12], np.float32)


@register("dataset", "synthetic")
class SyntheticDataset(HandDataset):
    """Right hands, rendered by a perspective camera.

    A sample is a pure function of ``seed``, ``split``, epoch and index; the validation split ignores the epoch. Poses
    are those of :func:`hamr_lightning.data.poses.sample_hand_poses`, shape numbers normal and clipped at 2.5. All
    views are equally likely but for two things: the forearm, whose part along the viewing axis is uniform as on a
    sphere, is kept from pointing at the camera, and comes from below more often than from above.

    The mask is of the hand with its wrist closed flat, as a silhouette renderer shows it. Things in front of the hand
    are cut out of it, as in RHD; the forearm is taken to hide nothing. Its edges are antialiased to quarters. The
    depth is that of whatever is nearest, forearm and things included, and infinite in the background.

    Args:
        split: "train" or "val": two streams that share no sample.
        count: Samples in a training epoch, at least 1.
        val_count: Samples of the validation split, at least 1.
        seed: At least 0.
        hand: A right hand model, or what :meth:`HandModel.load` takes.
        render_size: Side of the picture in pixels, at least 32.
        backgrounds: A folder of photographs to put behind the hands, its sub-folders included; None draws backgrounds.
        occluders: Share, in [0, 1], of samples in which things stand before the hand or are held.
        turn: Greatest rotation in degrees, above 0, from a hand held upright with its palm to the camera; 180 allows
            all views, less makes an easier task.

    Raises:
        ValueError: If an argument is out of its bounds; the message names it and the bound.
    """

    def __init__(
        self,
        split: Literal["train", "val"] = "train",
        count: int = 4096,
        val_count: int = 512,
        seed: int = 0,
        hand: HandModel | str = "open",
        render_size: int = 256,
        backgrounds: str | None = None,
        occluders: float = 0.25,
        turn: float = 180.0,
    ) -> None:
        _check("split", split, split in _SPLIT_STREAMS, f"one of {', '.join(_SPLIT_STREAMS)}")
        _check("count", count, count >= 1, "at least 1")
        _check("val_count", val_count, val_count >= 1, "at least 1")
        _check("seed", seed, seed >= 0, "at least 0")
        _check("render_size", render_size, render_size >= 32, "at least 32")
        _check("occluders", occluders, 0 <= occluders <= 1, "in [0, 1]")
        _check("turn", turn, 0 < turn <= 180, "above 0 and at most 180 degrees")
        model = HandModel.load(hand) if isinstance(hand, str) else hand
        _check("hand", model.name, model.side == "right", "a right hand; left hands are mirrored ones")
        self._split, self._count = split, count if split == "train" else val_count
        self._seed, self._size, self._occluders = seed, render_size, occluders
        self._turn = math.radians(turn)
        self._hand = ArticulatedHand(model)
        self._stage = Stage(model, np.random.default_rng(0))
        self._lens = Lens(render_size)
        self._background = Photographs(backgrounds).crop if backgrounds is not None else procedural_background

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return self._count

    def sample(self, index: int, epoch: int) -> HandSample:
        """Render a sample; see :meth:`HandDataset.sample`."""
        if not 0 <= index < self._count:
            raise IndexError(f"index must be in [0, {self._count}), got {index}")
        key = (_SPLIT_STREAMS[self._split], epoch if self._split == "train" else 0, index)
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

        hand_pose = sample_hand_poses(rng, 1)[0]
        betas = np.clip(rng.standard_normal(10), -_MOST_SHAPE, _MOST_SHAPE)
        orientation = _draw_view(self._stage.wrist_axis, self._turn, rng)
        posed = self._hand.pose(hand_pose, betas, orientation)
        intrinsics, translation = _draw_camera(posed, self._size, rng)
        vertices = posed + translation
        joints = self._hand.joints(vertices)

        thing_count = int(rng.integers(1, 3)) if rng.random() < self._occluders else 0
        scene = self._stage.set_scene(vertices, thing_count, rng)
        picture = self._background(rng, self._size)
        visibility, window, mask = _render(scene, intrinsics, self._size)
        depth = np.full((self._size, self._size), np.inf, np.float32)
        surface, lights = _light(scene, self._stage.textures, picture, rng)
        depth[window] = paint(picture[window], visibility, surface, lights, _STEEPEST / intrinsics[0, 0])
        return HandSample(
            image=self._lens.photograph(picture, rng),
            source=f"synthetic, {self._split} sample {index} of epoch {key[1]}, seed {self._seed}",
            is_left=False,
            joints_2d_px=project(joints, intrinsics),
            joints_3d=joints,
            mask=mask,
            depth=depth,
            vertices=vertices,
            global_orient=rotation_vector(orientation),
            hand_pose=hand_pose,
            betas=betas,
            intrinsics=intrinsics,
        )


def _check(name: str, value: object, holds: bool, bound: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {bound}, got {value!r}")


def _draw_view(wrist_axis: Float[np.ndarray, "3"], most: float, rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Return a rotation from the rest hand's axes to the camera's."""
    turned = _draw_turn(most, rng) @ _UPRIGHT
    forearm = turned @ wrist_axis
    from_below = math.atan2(forearm[0], forearm[1]) / math.pi
    azimuth = math.pi * math.copysign(abs(from_below) ** 1.5, from_below)
    depth = _TOWARDS_CAMERA + (_FROM_CAMERA - _TOWARDS_CAMERA) * (forearm[2] + 1) / 2
    width = math.sqrt(1 - depth**2)
    wanted = np.array([width * math.sin(azimuth), width * math.cos(azimuth), depth])
    return turn_between(forearm, wanted) @ turned


def _draw_turn(most: float, rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Draw a rotation of at most so many radians, all such rotations being equally likely."""
    axis = rng.standard_normal(3)
    while True:
        half = most * rng.random() ** (1 / 3) / 2
        if rng.random() <= (math.sin(half) / half) ** 2:
            return rotation_matrix(2 * half / math.hypot(*axis) * axis)


def _draw_camera(
    posed: Float[np.ndarray, "v 3"], size: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Return K, and the translation that puts the hand into the picture, at random size and somewhat off its centre."""
    focal = size * math.exp(rng.uniform(math.log(1.1), math.log(3.5)))
    share = rng.uniform(0.4, 0.7)
    middle, extent = _box(posed)
    distance = max(focal * extent[:2].max() / (share * size) + extent[2] / 2, _NEAREST)
    right, down = rng.uniform(-0.35, 0.35, 2) * (1 - share) * size * distance / focal
    return camera_matrix(focal, focal, size / 2, size / 2), np.array([right, down, distance]) - middle


def _render(
    scene: Scene, intrinsics: Float[np.ndarray, "3 3"], size: int
) -> tuple[Visibility, tuple[slice, slice], UInt8[np.ndarray, "s s"]]:
    """Return the scene's visibility within a part of the picture outside of which it has none, and the hand's mask."""
    points, left, top, right, bottom = _frame(scene.vertices, intrinsics, size)
    visibility = Visibility.empty(
        SAMPLES_PER_SIDE * (bottom - top), SAMPLES_PER_SIDE * (right - left), len(scene.faces)
    )
    chosen = front_facing(points, scene.faces)
    first_arm = np.searchsorted(chosen, scene.first_arm)
    draw(visibility, points, scene.faces, chosen[:first_arm])
    window = slice(top, bottom), slice(left, right)
    mask = np.zeros((size, size), np.uint8)
    mask[window] = coverage(visibility, scene.first_thing)
    draw(visibility, points, scene.faces, chosen[first_arm:])
    return visibility, window, mask


def _light(
    scene: Scene, textures: Texture, background: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator
) -> tuple[Surface, Lights]:
    """Put the scene in light that suits its background."""
    lights = _draw_lights([(level / 255) ** 2 for level in cv2.mean(background)[:3]], rng)
    arriving = soft_visibility(scene.vertices, scene.vertices[_HAND], lights)
    received = irradiance(scene.normals, arriving, lights, _SKIN_WRAP)
    facing = (scene.normals[_HAND, 2] < 0).astype(np.float32)
    brightness = float((facing @ received[_HAND]).mean()) / max(float(facing.sum()), 1.0)
    exposure = np.float32(math.exp(rng.normal(-0.25, 0.25)) / max(brightness, 1e-3))
    surface = Surface(
        faces=scene.faces,
        radiance=scene.reflectance * (exposure * received),
        normals=scene.normals,
        sheen=scene.sheen * (exposure * arriving[0]),
        texture_index=scene.texture_index,
        body_index=scene.body_index,
        textures=textures,
    )
    return surface, lights


def _draw_lights(ground: list[float], rng: np.random.Generator) -> Lights:
    """Return a key light from above, more often from the camera's side, and a sky over a ground of the given colour."""
    x, y, z = rng.normal(0, 0.7), -abs(rng.normal(0.6, 0.5)), rng.normal(-0.6, 0.6)
    length = math.sqrt(x * x + y * y + z * z)
    warmth = rng.normal(0, 1)
    share = rng.uniform(0.2, 0.9)
    sky_share = (1 - share) * 2 / len(_SKY)
    whole = max(sum(ground) / 3, 0.05)
    above = [sky_share * math.exp(-0.5 * warmth * part) for part in _WARMTH]
    below = [sky_share * 0.5 * (0.2 + part / whole) for part in ground]
    lights = Lights(np.empty((1 + len(_SKY), 3), np.float32), np.empty((1 + len(_SKY), 3), np.float32))
    lights.directions[0] = x / length, y / length, z / length
    lights.directions[1:] = _SKY
    lights.colours[0] = [share * math.exp(warmth * part) for part in _WARMTH]
    lights.colours[1:] = _UP * above + (1 - _UP) * below
    return lights


def _spread_directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Return directions spread evenly over a sphere (a Fibonacci lattice)."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = math.pi * (3 - math.sqrt(5)) * np.arange(count)
    width = np.sqrt(1 - height**2)
    return np.stack([width * np.cos(angle), height, width * np.sin(angle)], axis=1)


_SKY: Final = _spread_directions(10)
_UP: Final = 0.5 - 0.5 * _SKY[:, 1:2]
_WARMTH: Final = (0.12, 0.0, -0.18)
"""How the logarithms of red, green and blue grow as light becomes warmer."""


@compiled()
@no_type_check
def _box(points):
    """Return the middle and the sides of the box around points."""
    middle, extent = np.empty(3), np.empty(3)
    for axis in range(3):
        low = high = points[0, axis]
        for i in range(len(points)):
            low, high = min(low, points[i, axis]), max(high, points[i, axis])
        middle[axis], extent[axis] = (low + high) / 2, high - low
    return middle, extent


@compiled(error_model="numpy")
@no_type_check
def _frame(vertices, intrinsics, size):
    """Return the bounds of what the vertices span of the picture, after their places in it in samples, with depths."""
    points = np.empty_like(vertices)
    low_x = low_y = float(size)
    high_x = high_y = 0.0
    for i in range(len(points)):
        z = vertices[i, 2]
        x = intrinsics[0, 0] * vertices[i, 0] / z + intrinsics[0, 2]
        y = intrinsics[1, 1] * vertices[i, 1] / z + intrinsics[1, 2]
        points[i, 0], points[i, 1], points[i, 2] = x, y, z
        # What reaches behind the camera is not drawn.
        if z > 0:
            low_x, high_x, low_y, high_y = min(low_x, x), max(high_x, x), min(low_y, y), max(high_y, y)
    left, top = int(max(low_x, 0.0)), int(max(low_y, 0.0))
    right, bottom = math.ceil(min(high_x, float(size))), math.ceil(min(high_y, float(size)))
    for i in range(len(points)):
        points[i, 0] = SAMPLES_PER_SIDE * (points[i, 0] - left)
        points[i, 1] = SAMPLES_PER_SIDE * (points[i, 1] - top)
    return points, left, top, right, bottom
