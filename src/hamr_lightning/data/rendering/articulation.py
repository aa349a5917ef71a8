"""MANO in NumPy for one hand at a time, as rendering needs it; see :class:`hamr_lightning.decoders.ManoDecoder`."""

from typing import Final, no_type_check

import numpy as np
from jaxtyping import Float, Float32

from hamr_lightning.compiled import compiled
from hamr_lightning.data.turns import multiply, rotation_matrix
from hamr_lightning.hand_model import HandModel
from hamr_lightning.skeleton import MANO_PARENTS, MANO_TO_JOINTS

_PARENTS: Final = np.array(MANO_PARENTS)


class ArticulatedHand:
    """A hand model that can be posed.

    Args:
        hand: The hand model.
    """

    def __init__(self, hand: HandModel) -> None:
        self._vertices = hand.vertices.astype(np.float32).reshape(-1)
        self._shape_directions = hand.shape_directions.reshape(-1, 10).astype(np.float32)
        # What bends at a joint moves few vertices in the open hand, though all in MANO: what does not move is left out.
        by_joint = hand.pose_directions.reshape(-1, 3, 15, 9).transpose(0, 2, 1, 3)
        self._moved = np.argwhere(by_joint.any(axis=(2, 3))).astype(np.int32)
        self._pose_directions = by_joint[*self._moved.T].astype(np.float32)
        self._rest_joints = hand.joint_regressor @ hand.vertices
        self._joint_directions = np.einsum("jv,vkb->jkb", hand.joint_regressor, hand.shape_directions).reshape(48, 10)
        self._weights = hand.skinning_weights.astype(np.float32)
        fingertips = np.eye(len(hand.vertices))[hand.fingertips]
        self._regressor = np.concatenate([hand.joint_regressor, fingertips])[list(MANO_TO_JOINTS)]

    def pose(
        self, hand_pose: Float[np.ndarray, "45"], betas: Float[np.ndarray, "10"], orientation: Float[np.ndarray, "3 3"]
    ) -> Float32[np.ndarray, "778 3"]:
        """Return the vertices, in metres, about the rest hand's wrist joint.

        Args:
            hand_pose: Full axis-angle rotations of the finger joints, the mean pose contained.
            betas: Shape numbers.
            orientation: Rotation matrix of the whole hand.
        """
        joints = self._rest_joints + (self._joint_directions @ betas).reshape(16, 3)
        bent, motions = _move_joints(hand_pose, orientation, joints, _PARENTS)
        shaped = (self._vertices + self._shape_directions @ betas.astype(np.float32)).reshape(-1, 3)
        _bend(shaped, self._moved, self._pose_directions, bent)
        return _move(shaped, self._weights @ motions)

    def joints(self, vertices: Float[np.ndarray, "778 3"]) -> Float[np.ndarray, "21 3"]:
        """Return the joints of a posed mesh (paper, Eq. 3) and its finger tips, in the library's order."""
        return self._regressor @ vertices


@compiled()
@no_type_check
def _move_joints(hand_pose, orientation, joints, parents):
    """Return the numbers that the pose's blend shapes go with, and each joint's rotation and translation in a row."""
    bent = np.empty((15, 9), np.float32)
    turns = np.empty((16, 3, 3))
    places = np.zeros((16, 3))
    motions = np.empty((16, 12), np.float32)
    turns[0] = orientation
    for joint in range(16):
        if joint > 0:
            parent = parents[joint]
            local = rotation_matrix(hand_pose[3 * joint - 3 : 3 * joint])
            bent[joint - 1] = (local - np.eye(3)).reshape(9)
            turns[joint] = multiply(turns[parent], local)
            places[joint] = places[parent]
            for row in range(3):
                for axis in range(3):
                    bone = joints[joint, axis] - joints[parent, axis]
                    places[joint, row] += turns[parent, row, axis] * bone
        for row in range(3):
            motions[joint, 3 * row : 3 * row + 3] = turns[joint, row]
            shift = places[joint, row]
            for axis in range(3):
                shift -= turns[joint, row, axis] * joints[joint, axis]
            motions[joint, 9 + row] = shift
    return bent, motions


@compiled()
@no_type_check
def _bend(vertices, moved, directions, bent):
    """Add what the joints' bending does to the shape."""
    for i in range(len(moved)):
        vertex, joint = moved[i]
        for axis in range(3):
            for k in range(9):
                vertices[vertex, axis] += directions[i, axis, k] * bent[joint, k]


@compiled()
@no_type_check
def _move(vertices, motions):
    moved = np.empty_like(vertices)
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for row in range(3):
            k = 3 * row
            moved[i, row] = motions[i, k] * x + motions[i, k + 1] * y + motions[i, k + 2] * z + motions[i, 9 + row]
    return moved
