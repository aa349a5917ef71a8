import pytest
import torch

from hamr_lightning.losses.cam import CameraLoss
from hamr_lightning.types import HandParameters


@pytest.fixture
def predict(make_prediction):
    def make(camera):
        parameters = HandParameters(camera, *(torch.zeros(len(camera), n) for n in (3, 6, 10)))
        return make_prediction(len(camera), parameters=parameters)

    return make


@pytest.fixture
def annotated(make_batch):
    """Two hands seen by known weak-perspective cameras, some of whose joints are not valid and lie anywhere."""
    cameras = torch.tensor([[6.5, 0.02, -0.03], [9.0, -0.05, 0.01]])
    joints_3d = make_batch().joints_3d
    joints_2d = cameras[:, None, :1] * (joints_3d[..., :2] + cameras[:, None, 1:])
    valid_3d, valid_2d = torch.ones(2, 2, 21, dtype=torch.bool)
    valid_3d[:, 8], valid_2d[:, 20] = False, False
    joints_3d[:, 8], joints_2d[:, 20] = 7.0, -3.0
    fields = {"joints_3d": joints_3d, "joints_2d": joints_2d, "joints_3d_valid": valid_3d, "joints_2d_valid": valid_2d}
    return cameras, fields


def test_the_true_camera_costs_nothing(predict, annotated, make_batch):
    cameras, fields = annotated
    values = CameraLoss()(predict(cameras), make_batch(**fields))
    torch.testing.assert_close(values, torch.zeros(2), atol=1e-8, rtol=0)


def test_it_is_the_squared_distance_to_the_true_camera(predict, annotated, make_batch):
    cameras, fields = annotated
    wrong = (cameras + torch.tensor([0.5, -0.02, 0.01])).requires_grad_()
    values = CameraLoss()(predict(wrong), make_batch(**fields))
    torch.testing.assert_close(values, torch.full((2,), 0.25 + 0.0004 + 0.0001))
    values.sum().backward()
    torch.testing.assert_close(wrong.grad, torch.tensor([1.0, -0.04, 0.02]).expand(2, 3), atol=1e-5, rtol=0)


def test_a_hand_without_a_common_bone_is_not_valid(predict, annotated, make_batch):
    cameras, fields = annotated
    fields["joints_2d_valid"] = torch.zeros(2, 21, dtype=torch.bool)
    fields["joints_2d_valid"][0] = True
    fields["joints_2d_valid"][1, ::4] = True
    batch = make_batch(**fields)
    camera = (cameras + 1).requires_grad_()
    values = CameraLoss()(predict(camera), batch)
    values.sum().backward()
    assert CameraLoss().valid(batch).tolist() == [True, False]
    assert values[1] == 0
    assert camera.grad[1].tolist() == [0, 0, 0]
