"""The decoder against MANO as published, written out vertex by vertex in float64."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import mano_files
from hamr_lightning.decoders import ManoDecoder
from hamr_lightning.hand_model import HandModel

COUNT = 4


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, translation
    return transform


def pose_hand(hand: HandModel, rotation_vectors: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one hand's vertices (778, 3) and kinematic chain (16, 3)."""
    rotations = [Rotation.from_rotvec(vector).as_matrix() for vector in rotation_vectors]
    features = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    shaped = np.array([hand.vertices[v] + hand.shape_directions[v] @ betas for v in range(778)])
    joints = np.array([sum(hand.joint_regressor[j, v] * shaped[v] for v in range(778)) for j in range(16)])

    posed = [rigid(rotations[0], joints[0])]
    for j, parent in enumerate([0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], start=1):
        posed.append(posed[parent] @ rigid(rotations[j], joints[j] - joints[parent]))
    from_rest = [posed[j] @ np.linalg.inv(rigid(np.eye(3), joints[j])) for j in range(16)]

    vertices = np.empty((778, 3))
    for v in range(778):
        transform = sum(hand.skinning_weights[v, j] * from_rest[j] for j in range(16))
        corrected = shaped[v] + hand.pose_directions[v] @ features
        vertices[v] = (transform @ np.append(corrected, 1))[:3]
    return vertices, np.array([transform[:3, 3] for transform in posed])


def base_to_tip(joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Order MANO's joints (wrist, index, middle, pinky, ring, thumb) and the tips (thumb to pinky)."""
    index, middle, pinky, ring, thumb = joints[1:].reshape(5, 3, 3)
    fingers = [np.vstack([finger, tip]) for finger, tip in zip((thumb, index, middle, ring, pinky), tips, strict=True)]
    return np.vstack([joints[0], *fingers])


@pytest.fixture(scope="module", params=["open", "right", "left"])
def hand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HandModel:
    if request.param == "open":
        return HandModel.load()
    content = mano_files.official_pickle(mano_files.random_arrays(request.param))
    return HandModel.load(mano_files.write(tmp_path_factory.mktemp("mano") / "hand.pkl", content), fingertips="smplx")


@pytest.mark.parametrize("flat_hand_mean", [False, True])
@pytest.mark.parametrize("pose_components", [6, 12, 45, None])
def test_vertices_and_joints(hand: HandModel, pose_components: int | None, flat_hand_mean: bool) -> None:
    random = np.random.default_rng(0)
    orient, pose, betas = random.normal(size=(3, COUNT, 45))
    orient, pose, betas = orient[:, :3], 0.5 * pose[:, :pose_components], betas[:, :10]
    angles = pose if pose_components is None else pose @ hand.pose_components[:pose_components]
    angles = angles + (0 if flat_hand_mean else hand.pose_mean)
    vectors = np.concatenate([orient, angles], 1).reshape(COUNT, 16, 3)

    meshes = {
        source: ManoDecoder(hand, pose_components, flat_hand_mean=flat_hand_mean, joint_source=source)(
            *(torch.tensor(x, dtype=torch.float32) for x in (orient, pose, betas))
        )
        for source in ("mesh", "chain")
    }
    for b in range(COUNT):
        vertices, chain = pose_hand(hand, vectors[b], betas[b])
        tips = vertices[hand.fingertips]
        for source, joints in (("mesh", hand.joint_regressor @ vertices), ("chain", chain)):
            np.testing.assert_allclose(meshes[source].vertices[b], vertices, rtol=0, atol=1e-6)
            np.testing.assert_allclose(meshes[source].joints[b], base_to_tip(joints, tips), rtol=0, atol=1e-6)
