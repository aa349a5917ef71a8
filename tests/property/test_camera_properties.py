import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hamr_lightning.projection import fit_camera, project

offsets = st.floats(-1, 1)
scales = st.floats(0.1, 50)
hands = arrays(np.float64, (1, 21, 3), elements=st.floats(-0.2, 0.2)).filter(
    lambda hand: np.abs(hand[:, 1:, :2] - hand[:, :1, :2]).max() > 1e-3
)


def camera_of(scale: float, x: float, y: float) -> torch.Tensor:
    return torch.tensor([[scale, x, y]], dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(hands, scales, offsets, offsets)
def test_the_fitted_camera_reprojects_exactly(hand: np.ndarray, scale: float, x: float, y: float) -> None:
    joints_3d, camera = torch.from_numpy(hand), camera_of(scale, x, y)
    torch.testing.assert_close(fit_camera(joints_3d, project(joints_3d, camera)), camera, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(hands, hands, st.floats(0.5, 2), offsets, offsets)
def test_scaling_and_moving_the_picture_scales_and_moves_the_camera(
    hand: np.ndarray, other: np.ndarray, factor: float, x: float, y: float
) -> None:
    joints_3d, joints_2d = torch.from_numpy(hand), torch.from_numpy(other[..., :2] * 5)
    moved = joints_2d * factor + torch.tensor([x, y], dtype=torch.float64)
    before, after = fit_camera(joints_3d, joints_2d), fit_camera(joints_3d, moved)
    expected = torch.cat([before[:, :1] * factor, before[:, 1:] + torch.tensor([[x, y]]) / after[:, :1]], 1)
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-6)
