import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hamr_lightning.rotations import rotation_matrix

vectors = arrays(np.float64, 3, elements=st.floats(-10, 10)).map(torch.from_numpy)


@settings(deadline=None, max_examples=100)
@given(vectors)
def test_is_a_rotation_about_its_vector(vector: torch.Tensor) -> None:
    matrix = rotation_matrix(vector)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(matrix.det(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(matrix @ vector, vector, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(vectors, st.floats(-2, 2))
def test_rotations_about_one_axis_add_up(vector: torch.Tensor, factor: float) -> None:
    together = rotation_matrix((1 + factor) * vector)
    torch.testing.assert_close(rotation_matrix(vector) @ rotation_matrix(factor * vector), together, rtol=0, atol=1e-12)
