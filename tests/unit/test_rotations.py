import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from hamr_lightning.rotations import rotation_matrix

ANGLES = [0.0, 1e-12, 1e-6, 1e-3, 0.0632, 0.0633, 0.5, 3.0, math.pi, 2 * math.pi, 20.0]


def rotation_vectors(angle: float) -> Tensor:
    axes = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return angle * axes / axes.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("angle", ANGLES)
def test_matches_scipy(angle: float) -> None:
    vectors = rotation_vectors(angle)
    expected = Rotation.from_rotvec(vectors.numpy()).as_matrix()
    np.testing.assert_allclose(rotation_matrix(vectors).numpy(), expected, atol=1e-14)
    np.testing.assert_allclose(rotation_matrix(vectors.float()).numpy(), expected, atol=5e-7 * max(1, angle))


@pytest.mark.parametrize("angle", ANGLES)
def test_first_and_second_derivatives(angle: float) -> None:
    vectors = rotation_vectors(angle)[:2].requires_grad_()
    assert torch.autograd.gradcheck(rotation_matrix, vectors)
    assert torch.autograd.gradgradcheck(rotation_matrix, vectors)


@pytest.mark.parametrize("angle", [0.0, 1e-30, 1e-6, 1e-3, 0.0632, 0.0633, 3.0])
def test_float32_gradient(angle: float) -> None:
    exact, single = rotation_vectors(angle).requires_grad_(), rotation_vectors(angle).float().requires_grad_()
    weights = torch.randn(8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (rotation_matrix(exact) * weights).sum().backward()
    (rotation_matrix(single) * weights.float()).sum().backward()
    assert exact.grad is not None
    assert single.grad is not None
    torch.testing.assert_close(single.grad.double(), exact.grad, rtol=0, atol=3e-6)


def test_invalid_numbers_stay_invalid() -> None:
    vectors = torch.tensor([[math.nan, 0.0, 0.0], [math.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    matrices = rotation_matrix(vectors)
    assert matrices[:2].isnan().flatten(1).any(1).all()
    assert torch.equal(matrices[2], torch.eye(3))


def test_any_number_of_leading_axes() -> None:
    assert rotation_matrix(torch.zeros(3)).shape == (3, 3)
    assert rotation_matrix(torch.zeros(0, 16, 3)).shape == (0, 16, 3, 3)
