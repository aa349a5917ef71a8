import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import distributed

from hamr_lightning.baseline import Constant
from hamr_lightning.metrics import PCKAUC, MeanJointError
from hamr_lightning.types import HandBatch

GENERATOR = torch.Generator().manual_seed(4)


def batches_of(joints, masks, size, **fields):
    """Split samples into batches."""
    parts = zip(joints.split(size), masks.split(size), strict=True)
    return [HandBatch(image=torch.zeros(len(j), 3, 16, 16), joints_3d=j, mask=m, **fields) for j, m in parts]


@pytest.fixture(scope="module")
def data():
    joints = torch.randn(30, 21, 3, generator=GENERATOR) * 0.04
    joints[:6] += 0.2
    joints = joints - joints[:, :1]
    masks = torch.zeros(30, 16, 16)
    masks[:, 4:12, 4:12] = 1
    masks[:12, :8] = 1
    return joints, masks


def test_the_constant_joints_have_the_least_mean_error(data):
    joints, masks = data
    batches = batches_of(joints, masks, 8)
    figures = Constant.best(batches, 8).figures(batches)
    expected = [
        minimize(
            lambda x, points: np.linalg.norm(points - x, axis=1).mean(),
            x0=points.mean(0),
            args=(points,),
            tol=1e-10,
        ).fun
        for points in joints.double().numpy().transpose(1, 0, 2)
    ]
    assert figures["joint_error_mm"] == pytest.approx(1000 * np.mean(expected), rel=1e-4)


def test_the_figures_are_those_of_the_metrics_on_the_validation_data(data):
    joints, masks = data
    constant = joints[:1].expand(5, -1, -1)
    training = batches_of(constant, masks[20:25], 2)
    figures = Constant.best(training, 8).figures(batches_of(joints, masks, 7))
    for name, metric in (("auc_3d", PCKAUC()), ("joint_error_mm", MeanJointError())):
        metric.update(joints[:1].expand_as(joints), joints, torch.ones(30, 21, dtype=torch.bool))
        assert figures[name] == pytest.approx(metric.compute().item(), rel=1e-4)
    # All training masks are the square of 8 x 8; 12 of the 30 validation masks have the upper half of 16 x 16 as well.
    assert figures["miou"] == pytest.approx((18 + 12 * 64 / (128 + 32)) / 30)


def test_the_constant_silhouette_has_the_best_share(data):
    _, masks = data
    joints = torch.zeros(30, 21, 3)
    batches = batches_of(joints, masks, 8)
    square, union = torch.zeros(2, 16, 16)
    square[4:12, 4:12] = 1
    union[:] = masks.amax(dim=0)
    ious = [np.mean([((c * m).sum() / (c + m).clamp(max=1).sum()).item() for m in masks]) for c in (square, union)]
    assert Constant.best(batches, 16).figures(batches)["miou"] == pytest.approx(max(ious))


def test_what_is_not_valid_does_not_count(data):
    joints, masks = data
    spoiled, spoiled_masks = joints.clone(), masks.clone()
    spoiled[3:], spoiled_masks[3:] = 9, 0
    valid = {"joints_3d_valid": torch.zeros(30, 21, dtype=torch.bool), "mask_valid": torch.zeros(30, dtype=torch.bool)}
    for field in valid.values():
        field[:3] = True
    few = batches_of(joints[:3], masks[:3], 3)
    with_invalid = batches_of(spoiled, spoiled_masks, 30, **valid)
    assert Constant.best(with_invalid, 8).figures(with_invalid) == pytest.approx(Constant.best(few, 8).figures(few))


def test_data_without_annotation_has_no_figure(data):
    joints, masks = data
    images = [HandBatch(image=torch.zeros(2, 3, 16, 16))]
    assert Constant.best(images, 8).figures(images) == {}
    no_masks = [HandBatch(image=torch.zeros(30, 3, 16, 16), joints_3d=joints)]
    assert set(Constant.best(no_masks, 8).figures(batches_of(joints, masks, 8))) == {"auc_3d", "joint_error_mm"}


@pytest.fixture
def process_group_of_gpus_alone(tmp_path):
    """A group that can gather nothing from a CPU, as NCCL's."""
    distributed.init_process_group("cuda:gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group_of_gpus_alone")
def test_nothing_is_gathered_from_other_processes(data):
    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        distributed.barrier()
    batches = batches_of(*data, 8)
    assert Constant.best(batches, 8).figures(batches).keys() == {"auc_3d", "joint_error_mm", "miou"}
