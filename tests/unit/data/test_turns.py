"""Single rotations against SciPy's."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hamr_lightning.data.turns import multiply, rotation_matrix, rotation_vector, turn_between

SMALL_AND_HALF_TURNS = [(0, 0, 0), (1e-9, 0, 2e-10), (0, 1e-5, 0), (np.pi, 0, 0), (0, 0, 3.14159), (1.8, -1.8, 1.8)]


@pytest.mark.parametrize("vector", [*SMALL_AND_HALF_TURNS, *Rotation.random(50, rng=0).as_rotvec()], ids=str)
def test_matrices_and_vectors_are_scipys(vector: tuple[float, float, float]) -> None:
    rotation = Rotation.from_rotvec(vector)
    np.testing.assert_allclose(rotation_matrix(np.array(vector, float)), rotation.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(rotation_vector(rotation.as_matrix()), rotation.as_rotvec(), atol=1e-12)


def test_vectors_near_a_half_turn_turn_as_their_matrices() -> None:
    for axis in Rotation.random(100, rng=1).apply([1.0, 0, 0]):
        matrix = Rotation.from_rotvec((np.pi - 1e-7) * axis).as_matrix()
        np.testing.assert_allclose(Rotation.from_rotvec(rotation_vector(matrix)).as_matrix(), matrix, atol=1e-12)


def test_the_turn_between_two_vectors_is_about_their_normal() -> None:
    for start, end in Rotation.random(50, rng=2).as_matrix()[:, :2]:
        matrix = turn_between(start, end)
        np.testing.assert_allclose(matrix @ start, end, atol=1e-12)
        np.testing.assert_allclose(matrix @ np.cross(start, end), np.cross(start, end), atol=1e-12)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)


def test_products_are_numpys() -> None:
    left, right = np.random.default_rng(0).normal(size=(2, 3, 3))
    np.testing.assert_allclose(multiply(left, right), left @ right, atol=1e-14)
