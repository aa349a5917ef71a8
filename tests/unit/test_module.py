import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import hamr_lightning as hl
from hamr_lightning.backbones import HourglassBackbone
from hamr_lightning.decoders import JointDecoder, ManoDecoder
from hamr_lightning.metrics import PCKAUC, MeanIoU, MeanJointError
from hamr_lightning.module import BATCHES_UNTIL_IDLE, HAMRModule
from hamr_lightning.regressors import HamrRegressor
from hamr_lightning.renderers.contour import ContourRenderer

LOSSES = {"joints_3d": 1000.0, "joints_2d": 1.0, "geo": 1.0, "cam": 0.1, "heatmap": 100.0, "seg": 10.0}


def build_losses(*names):
    return {name: hl.build("loss", name, weight=LOSSES[name]) for name in names or LOSSES}


def build_model(mesh=True, losses=None, **arguments):
    backbone = HourglassBackbone(depth=1, channels=8, growth=4, heatmaps=24)
    decoder = ManoDecoder() if mesh else JointDecoder()
    size = 3 + decoder.orient_size + decoder.pose_size + decoder.shape_size
    regressor = HamrRegressor(8 + 24, size, feature_size=16, hidden=16)
    renderer = ContourRenderer(decoder.faces, size=16) if mesh else None
    return HAMRModule(backbone, regressor, decoder, renderer, losses or build_losses(), **arguments)


def fit(model, training, epochs=1):
    """Train on the batches and validate on the first two of them."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(training, batch_size=None), DataLoader(training[:2], batch_size=None))
    return trainer


@pytest.fixture
def batch(make_batch):
    valid = torch.ones(3, 21, dtype=torch.bool)
    valid[1, 4:] = False
    return make_batch(3, joints_3d_valid=valid, mask_valid=torch.tensor([True, False, True]))


def test_a_prediction_is_what_its_parameters_say():
    model = build_model().eval()
    out = model(torch.rand(3, 3, 32, 32))
    parameters = out.parameters
    mesh = model.decoder(parameters.global_orient, parameters.hand_pose, parameters.betas)
    vertices = mesh.vertices - mesh.joints[:, :1]
    torch.testing.assert_close(out.joints_3d, mesh.joints - mesh.joints[:, :1])
    torch.testing.assert_close(out.vertices, vertices)
    scale, shift = out.camera[:, None, :1], out.camera[:, None, 1:]
    torch.testing.assert_close(out.joints_2d, scale * (out.joints_3d[..., :2] + shift))
    torch.testing.assert_close(out.points[..., :2], scale * (vertices[..., :2] + shift))
    torch.testing.assert_close(out.points[..., 2], vertices[..., 2])
    torch.testing.assert_close(out.silhouette, model.renderer(out.points))
    assert out.heatmaps.shape == (3, 2, 24, 8, 8)
    assert len(out.iterations) == 3
    assert out.iterations[-1] is parameters
    assert [tensor.shape[1] for tensor in vars(parameters).values()] == [3, 3, 6, 10]


def test_the_regressor_sees_the_features_and_the_last_stack_s_heatmaps():
    model = build_model().eval()
    seen = []
    model.regressor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 32, 32)
    out = model(images)
    torch.testing.assert_close(seen[0], torch.cat([model.backbone(images)[1], out.heatmaps[:, 1]], dim=1))


def test_the_start_is_a_hand_in_the_crop():
    out = build_model().eval()(torch.rand(2, 3, 32, 32))
    area = out.silhouette.mean(dim=(1, 2))
    assert ((area > 0.05) & (area < 0.6)).all()


def test_without_a_mesh_the_regressor_gives_the_joints():
    model = build_model(mesh=False, losses=build_losses("joints_3d")).eval()
    out = model(torch.rand(2, 3, 32, 32))
    joints = out.parameters.hand_pose.reshape(2, 21, 3)
    torch.testing.assert_close(out.joints_3d, joints - joints[:, :1])
    assert out.vertices.shape == out.points.shape == (2, 0, 3)
    assert out.silhouette is None


def test_autocast_reaches_the_convolutions_alone(batch):
    model = build_model().eval()
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            seen[name] = torch.is_autocast_enabled("cpu"), output

        return hook

    for name in ("backbone", "decoder", "renderer", "regressor.encoder"):
        model.get_submodule(name).register_forward_hook(watch(name))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch.image)
        losses = {name: loss(out, batch) for name, loss in model.losses.items()}
    assert seen["backbone"][0]
    assert seen["regressor.encoder"][1].dtype == torch.bfloat16
    assert not seen["decoder"][0]
    assert not seen["renderer"][0]
    tensors = (out.vertices, out.joints_3d, out.joints_2d, out.points, out.camera, out.heatmaps, out.silhouette)
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    for name, loss in model.losses.items():
        assert torch.equal(losses[name], loss(out, batch)), name


def test_the_total_is_the_weighted_sum_of_the_means_over_valid_samples(batch):
    model = build_model().eval()
    model.log = lambda *_, **__: None
    out = model(batch.image)
    total = model.training_step(batch, 0)
    expected = 0.0
    for name, loss in model.losses.items():
        values = loss(out, batch).tolist()
        samples = [0, 2] if name == "seg" else [0, 1, 2]
        expected += LOSSES[name] * sum(values[i] for i in samples) / len(samples)
    assert total.item() == pytest.approx(expected, rel=1e-5)


RANK_SCRIPT = """
import sys, torch, torch.distributed as dist
rank, ranks, store, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
import hamr_lightning as hl
from test_module import build_losses, build_model
if ranks > 1:
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=ranks)
torch.manual_seed(0)
model = build_model(losses=build_losses("joints_2d", "seg")).eval()
model.log = lambda *_, **__: None
share = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
generator = torch.Generator().manual_seed(1)
image, joints = torch.rand(4, 3, 32, 32, generator=generator), torch.rand(4, 21, 2, generator=generator)
mask = torch.rand(4, 32, 32, generator=generator)
valid = torch.tensor([True, True, True, False])
masked = torch.tensor([True, False, False, False])
batch = hl.HandBatch(
    image=image[share], joints_2d=joints[share], joints_2d_valid=valid[share, None].expand(-1, 21),
    mask=mask[share], mask_valid=masked[share],
)
model.training_step(batch, 0).backward()
gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
if ranks > 1:
    dist.all_reduce(gradient)
    gradient /= ranks
    dist.destroy_process_group()
torch.save(gradient, output)
"""


def test_two_ranks_with_unequal_annotation_train_as_one(tmp_path):
    def start(rank, ranks):
        arguments = map(str, (rank, ranks, tmp_path / f"store{ranks}", tmp_path / f"{ranks}_{rank}.pt"))
        return subprocess.Popen([sys.executable, "-c", RANK_SCRIPT, *arguments], cwd=Path(__file__).parent)

    processes = [start(0, 1), start(0, 2), start(1, 2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    alone, together = (torch.load(tmp_path / f"{ranks}_0.pt") for ranks in (1, 2))
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_a_batch_without_annotation_costs_nothing_and_can_be_differentiated(batch):
    model = build_model(losses=build_losses(*(set(LOSSES) - {"geo"})))
    model.log = lambda *_, **__: None
    total = model.training_step(hl.HandBatch(image=batch.image), 0)
    total.backward()
    assert total == 0
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "removed", ["joints_3d", "joints_2d", "geo", "cam", "heatmap", "seg", "mesh", "all but heatmap"]
)
def test_no_ablation_leaves_a_parameter_without_gradient(removed, batch):
    names = {"heatmap"} if removed == "all but heatmap" else set(LOSSES) - {removed}
    if removed == "mesh":
        names -= {"seg"}
    model = build_model(mesh=removed != "mesh", losses=build_losses(*names))
    model.log = lambda *_, **__: None
    model.training_step(batch, 0).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_checkpoint_holds_the_network_alone():
    state = build_model().state_dict()
    assert {name.split(".")[0] for name in state} == {"backbone", "regressor"}
    assert not [name for name, tensor in state.items() if 778 in tensor.shape]


def test_training_and_validation_log_what_they_measure(batch, make_batch):
    model = build_model()
    other = make_batch(2, seed=7)
    trainer = fit(model, [batch, other])
    logged = trainer.logged_metrics
    names = {f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", *LOSSES)}
    assert set(logged) == names | {"val/auc_3d", "val/joint_error_mm", "val/miou"}
    auc, error, miou = PCKAUC(), MeanJointError(), MeanIoU()
    values: dict[str, list[float]] = {name: [] for name in LOSSES}
    model.eval()
    for each in (batch, other):
        out = model(each.image)
        for metric in (auc, error):
            metric.update(out.joints_3d, each.joints_3d, each.validity("joints_3d"))
        miou.update(out.silhouette, each.mask, each.validity("mask"))
        for name, loss in model.losses.items():
            values[name] += loss(out, each)[loss.valid(each)].tolist()
    for name, metric in (("auc_3d", auc), ("joint_error_mm", error), ("miou", miou)):
        torch.testing.assert_close(logged[f"val/{name}"], metric.compute())
    means = {name: np.mean(each) for name, each in values.items()}
    for name, mean in means.items():
        assert logged[f"val/{name}"].item() == pytest.approx(mean, rel=1e-4)
    total = sum(LOSSES[name] * mean for name, mean in means.items())
    assert logged["val/loss"].item() == pytest.approx(total, rel=1e-4)


def test_a_validation_batch_without_annotation_does_not_count(make_batch):
    first = make_batch(2, mask_valid=torch.tensor([True, False]))
    model = build_model(losses=build_losses("seg"))
    trainer = fit(model, [first, make_batch(2, seed=7, mask_valid=torch.tensor([False, False]))])
    loss = model.losses["seg"](model.eval()(first.image), first)[0]
    assert trainer.logged_metrics["val/seg"].item() == pytest.approx(loss.item(), rel=1e-4)


def test_a_figure_without_annotation_is_not_logged(make_batch):
    batch = make_batch(2, joints_3d=None, mask_valid=torch.zeros(2, dtype=torch.bool))
    trainer = fit(build_model(losses=build_losses("joints_2d")), [batch])
    assert set(trainer.logged_metrics) == {
        f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "joints_2d")
    }


def test_an_idle_loss_says_so_once(make_batch):
    batch = make_batch(2, mask_valid=torch.zeros(2, dtype=torch.bool))
    model = build_model(losses=build_losses("joints_2d", "seg"))
    with pytest.warns(UserWarning, match="'seg' is idle: no sample so far has mask") as caught:
        trainer = fit(model, [batch] * (BATCHES_UNTIL_IDLE + 2), epochs=2)
    assert len([warning for warning in caught if "idle" in str(warning.message)]) == 1
    assert trainer.logged_metrics["train/seg"] == 0


def test_a_short_epoch_is_enough_to_be_idle(make_batch):
    with pytest.warns(UserWarning, match="'cam' is idle: no sample so far has joints_3d and joints_2d"):
        fit(build_model(losses=build_losses("joints_2d", "cam")), [make_batch(2, joints_3d=None)])


def test_a_loss_with_some_annotation_is_not_idle(make_batch):
    bare, full = make_batch(2, mask=None), make_batch(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(build_model(losses=build_losses("joints_2d", "seg")), [bare, full, bare], epochs=2)


def test_the_optimizer_is_the_paper_s_by_default():
    optimizer = build_model().configure_optimizers()
    assert type(optimizer) is torch.optim.RMSprop
    assert optimizer.defaults["lr"] == 2e-4


def test_a_plateau_of_the_validation_loss_lowers_the_learning_rate(batch):
    never_better = {"threshold": 1e9, "threshold_mode": "abs"}
    scheduler = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.7, patience=0, **never_better)
    model = build_model(optimizer=partial(torch.optim.SGD, lr=1e-6), scheduler=scheduler)
    trainer = fit(model, [batch], epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.49e-6)


def test_other_schedulers_step_every_epoch(make_batch):
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    model = build_model(optimizer=partial(torch.optim.SGD, lr=1e-3), scheduler=scheduler)
    trainer = fit(model, [make_batch()] * 3, epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)


def test_the_learning_rate_warms_up(make_batch):
    rates = []

    class Recorder(torch.optim.SGD):
        def step(self, closure):
            rates.extend(group["lr"] for group in self.param_groups)
            return super().step(closure)

    model = build_model(optimizer=partial(Recorder, lr=1e-3), warmup_steps=3)
    trainer = fit(model, [make_batch()] * 3, epochs=2)
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-3


def test_an_interrupted_step_leaves_the_learning_rate(make_batch):
    model = build_model(optimizer=partial(torch.optim.SGD, lr=1e-3))
    model.training_step = lambda batch, batch_idx: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(model, [make_batch()])
    assert model.optimizers(use_pl_optimizer=False).param_groups[0]["lr"] == 1e-3


def test_predict_gives_the_forward_s_prediction(batch):
    model = build_model().eval()
    assert torch.equal(model.predict_step(batch, 0).vertices, model(batch.image).vertices)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="losses must hold at least one loss"):
        HAMRModule(HourglassBackbone(depth=1, channels=8), HamrRegressor(72, 22), ManoDecoder(), None, {})
    with pytest.raises(ValueError, match="warmup_steps must be at least 0, got -1"):
        build_model(warmup_steps=-1)
    model = build_model()
    parts = model.backbone, model.regressor
    with pytest.raises(ValueError, match="losses seg need a silhouette, but renderer is None"):
        HAMRModule(*parts, model.decoder, None, build_losses())
    with pytest.raises(ValueError, match="the decoder has no mesh to render; set renderer to None"):
        HAMRModule(*parts, JointDecoder(), model.renderer, build_losses())
    misfit = HAMRModule(*parts, JointDecoder(), None, build_losses("joints_3d"))
    with pytest.raises(ValueError, match=r"parameter_count is 22, .* take 3 \+ 0 \+ 63 \+ 0 = 66 numbers"):
        misfit(torch.rand(2, 3, 32, 32))
