import numpy as np
import pytest
import torch

from hamr_lightning.losses.joints_2d import Joints2DLoss
from hamr_lightning.losses.joints_3d import Joints3DLoss

CASES = [(Joints3DLoss, "joints_3d"), (Joints2DLoss, "joints_2d")]


@pytest.mark.parametrize(("loss", "field"), CASES)
def test_it_is_the_mean_squared_distance_of_the_valid_joints(loss, field, make_prediction, make_batch):
    valid = torch.rand(3, 21, generator=torch.Generator().manual_seed(5)) > 0.3
    prediction, batch = make_prediction(3), make_batch(3, **{f"{field}_valid": valid})
    predicted = getattr(prediction, field).detach().double().numpy()
    annotated = getattr(batch, field).double().numpy()
    expected = [
        np.mean([np.sum((p - a) ** 2) for p, a, ok in zip(*rows, strict=True) if ok])
        for rows in zip(predicted, annotated, valid, strict=True)
    ]
    np.testing.assert_allclose(loss()(prediction, batch).detach(), expected, rtol=1e-5)


@pytest.mark.parametrize(("loss", "field"), CASES)
def test_a_joint_off_by_a_centimetre_costs_its_square_over_the_joints(loss, field, make_prediction, make_batch):
    batch = make_batch()
    moved = getattr(batch, field).clone()
    moved[0, 7, 1] += 0.01
    values = loss()(make_prediction(**{field: moved}), batch)
    torch.testing.assert_close(values, torch.tensor([1e-4 / 21, 0]), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("loss", "field"), CASES)
def test_what_is_not_valid_has_neither_value_nor_gradient(loss, field, make_prediction, make_batch):
    valid = torch.ones(2, 21, dtype=torch.bool)
    valid[0, 3] = False
    valid[1] = False
    prediction = make_prediction()
    values = loss()(prediction, make_batch(**{f"{field}_valid": valid}))
    values.sum().backward()
    gradient = getattr(prediction, field).grad.abs().sum(-1) > 0
    assert values[1] == 0
    assert torch.equal(gradient, valid)
