"""MANO in NumPy for one hand at a time, as rendering needs it; see :class:`hamr_lightning.decoders.ManoDecoder`."""

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from hamr_lightning.hand_model import HandModel
from hamr_lightning.skeleton import MANO_PARENTS, MANO_TO_JOINTS


class ArticulatedHand:
    """A hand model that can be posed.

    Args:
        hand: The hand model.
    """

    def __init__(self, hand: HandModel) -> None:
        self._vertices = hand.vertices.astype(np.float32)
        self._shape_directions = hand.shape_directions.astype(np.float32)
        self._pose_directions = hand.pose_directions.astype(np.float32).reshape(-1, 135)
        self._joint_regressor = hand.joint_regressor.astype(np.float32)
        self._weights = hand.skinning_weights.astype(np.float32)
        self._fingertips = hand.fingertips

    def pose(
        self, hand_pose: Float[np.ndarray, "45"], betas: Float[np.ndarray, "10"], orientation: Float[np.ndarray, "3 3"]
    ) -> Float32[np.ndarray, "778 3"]:
        """Return the vertices, in metres, about the rest hand's wrist joint.

        Args:
            hand_pose: Full axis-angle rotations of the finger joints, the mean pose contained.
            betas: Shape numbers.
            orientation: Rotation matrix of the whole hand.
        """
        shaped = self._vertices + self._shape_directions @ betas.astype(np.float32)
        joints = self._joint_regressor @ shaped
        local = np.concatenate([orientation[None], Rotation.from_rotvec(hand_pose.reshape(15, 3)).as_matrix()])
        local = local.astype(np.float32)
        bent = (local[1:] - np.eye(3, dtype=np.float32)).reshape(135)
        shaped += (self._pose_directions @ bent).reshape(-1, 3)

        turns, places = [local[0]], [np.zeros(3, np.float32)]
        for joint, parent in enumerate(MANO_PARENTS[1:], start=1):
            turns.append(turns[parent] @ local[joint])
            places.append(places[parent] + turns[parent] @ (joints[joint] - joints[parent]))
        turn = np.stack(turns)
        shift = np.stack(places) - np.einsum("jab,jb->ja", turn, joints)
        motion = self._weights @ np.concatenate([turn.reshape(16, 9), shift], axis=1)
        return np.einsum("vab,vb->va", motion[:, :9].reshape(-1, 3, 3), shaped) + motion[:, 9:]

    def joints(self, vertices: Float[np.ndarray, "778 3"]) -> Float[np.ndarray, "21 3"]:
        """Return the joints of a posed mesh (paper, Eq. 3) and its finger tips, in the library's order."""
        return np.concatenate([self._joint_regressor @ vertices, vertices[self._fingertips]])[list(MANO_TO_JOINTS)]
