"""What every registered component promises, whoever wrote it."""

import importlib.util

import pytest
import torch
from torch.autograd import grad

import hamr_lightning as hl

JOINT_LOSSES = {"joints_2d", "joints_3d"}

SMALL = {
    ("backbone", "hourglass"): {"depth": 2, "channels": 16, "growth": 8, "heatmaps": 24},
    ("regressor", "iterative"): {"feature_size": 32, "hidden": 16},
}
"""Arguments for components that are large by default."""

NEEDS = {("decoder", "manopth"): "manopth", ("renderer", "nvdiffrast"): "nvdiffrast"}
"""Components that need a package which may be absent."""

DEVICES = {("renderer", "nvdiffrast"): "cuda"}
"""The devices of components that work nowhere else."""

BOX = torch.tensor([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])
"""A tetrahedron."""


def components(kind):
    return pytest.mark.parametrize("name", hl.available(kind))


def build(kind, name, **arguments):
    package = NEEDS.get((kind, name))
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} needs {package}")
    if DEVICES.get((kind, name)) == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"{name} needs a GPU")
    return hl.build(kind, name, **SMALL.get((kind, name), {}), **arguments).to(DEVICES.get((kind, name), "cpu"))


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", ["backbone", "regressor", "decoder", "renderer", "loss"])
def test_every_kind_has_a_component(kind):
    assert hl.available(kind)


@components("backbone")
def test_backbone(name):
    backbone = build("backbone", name)
    image = torch.rand(2, 3, 64, 64)
    heatmaps, features = backbone(image)
    assert heatmaps.shape[0] == features.shape[0] == 2
    assert heatmaps.shape[2:] == (backbone.heatmap_channels, 16, 16)
    assert features.shape[1:] == (backbone.feature_channels, 16, 16)
    assert backbone.heatmap_channels >= 21
    (heatmaps.square().mean() + features.square().mean()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())
    backbone.eval()
    torch.testing.assert_close(backbone(image[:1])[0], backbone(image)[0][:1], atol=1e-5, rtol=1e-4)


@components("regressor")
def test_regressor(name):
    regressor = build("regressor", name, feature_channels=7, parameter_count=22)
    features = torch.rand(2, 7, 64, 64)
    estimates = regressor(features)
    assert estimates.shape[0] == 2
    assert estimates.shape[2] == 22
    estimates.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in regressor.parameters())
    regressor.eval()
    torch.testing.assert_close(regressor(features[:1]), regressor(features)[:1], atol=1e-5, rtol=1e-4)
    with autocast():
        assert regressor(features).dtype == torch.float32


@components("decoder")
def test_decoder(name):
    decoder = build("decoder", name)
    sizes = decoder.orient_size, decoder.pose_size, decoder.shape_size
    inputs = [torch.zeros(2, size, requires_grad=True) for size in sizes]
    mesh = decoder(*inputs)
    assert mesh.joints.shape == (2, 21, 3)
    if decoder.faces is None:
        assert mesh.vertices.shape == (2, 0, 3)
    else:
        assert mesh.vertices.shape[1] > decoder.faces.max()
    used = [tensor for tensor in inputs if tensor.shape[1]]
    assert all(gradient.isfinite().all() for gradient in grad(mesh.joints.square().sum(), used))
    with autocast():
        again = decoder(*inputs)
    assert torch.equal(again.joints, mesh.joints)
    assert again.vertices.dtype == torch.float32
    assert not decoder.state_dict(), "a checkpoint must not hold a hand model's arrays"


@components("renderer")
def test_renderer(name):
    renderer = build("renderer", name, faces=BOX, size=16)
    points = torch.tensor([[-0.6, -0.5, 0.0], [0.7, -0.4, 0.1], [0.1, 0.8, 0.0], [0.1, 0.1, 0.5]])
    points = torch.stack([points, points + torch.tensor([9.0, 0, 0])])
    points = points.to(DEVICES.get(("renderer", name), "cpu")).requires_grad_()
    mask = renderer(points)
    assert mask.shape == (2, 16, 16)
    assert ((mask >= 0) & (mask <= 1)).all()
    # The triangle's area, as a share of the crop's 4 square units.
    assert mask[0].mean().item() == pytest.approx(0.5 * (1.3 * 1.3 - 0.1 * 0.7) / 4, abs=0.01)
    assert mask[1].sum() == 0
    mask[0, 0].sum().add(mask.square().sum()).backward()
    assert points.grad.isfinite().all()
    with torch.autocast(points.device.type, torch.bfloat16):
        torch.testing.assert_close(renderer(points), mask, rtol=0, atol=1e-6)
    assert not renderer.state_dict()


@components("loss")
class TestLoss:
    def test_it_gives_a_finite_number_a_sample_that_autocast_does_not_change(self, name, make_prediction, make_batch):
        loss, prediction, batch = build("loss", name, weight=3.0), make_prediction(3), make_batch(3)
        values = loss(prediction, batch)
        assert values.shape == (3,)
        assert values.dtype == torch.float32
        assert values.isfinite().all()
        assert (values >= 0).all()
        with autocast():
            assert torch.equal(loss(prediction, batch), values)

    def test_samples_do_not_see_each_other_nor_the_weight(self, name, make_prediction, make_batch):
        together = build("loss", name, weight=1.0)(make_prediction(4, seed=2), make_batch(4, seed=3))
        fields = make_prediction(4, seed=2), make_batch(4, seed=3)
        for sample in range(4):
            alone = build("loss", name, weight=5.0)(*(one_sample(record, sample) for record in fields))
            torch.testing.assert_close(alone, together[sample : sample + 1])

    def test_without_annotation_it_is_0_with_finite_gradients(self, name, make_prediction, make_batch):
        loss = build("loss", name)
        if not loss.requires:
            pytest.skip(f"{name} needs no annotation")
        absent = make_batch(joints_2d=None, joints_3d=None, mask=None)
        nowhere = {"mask_valid": torch.zeros(2, dtype=torch.bool)}
        nowhere |= {f"{joints}_valid": torch.zeros(2, 21, dtype=torch.bool) for joints in JOINT_LOSSES}
        for batch in (absent, make_batch(**nowhere)):
            prediction = make_prediction()
            values = loss(prediction, batch)
            assert values.tolist() == [0, 0]
            assert not loss.valid(batch).any()
            values.sum().backward()
            assert all(gradient.isfinite().all() for gradient in gradients(prediction))

    def test_one_sample_s_lack_does_not_touch_the_other(self, name, make_prediction, make_batch):
        loss = build("loss", name)
        if not loss.requires:
            pytest.skip(f"{name} needs no annotation")
        first = torch.tensor([True, False])
        partly = {"mask_valid": first} | {f"{joints}_valid": first[:, None].repeat(1, 21) for joints in JOINT_LOSSES}
        prediction = make_prediction()
        values = loss(prediction, make_batch(**partly))
        assert values[0] == loss(prediction, make_batch())[0]
        assert values[1] == 0
        values.sum().backward()
        assert all(gradient[1].abs().sum() == 0 for gradient in gradients(prediction))

    def test_a_descent_along_the_gradient_lowers_it(self, name, make_prediction, make_batch):
        loss, prediction, batch = build("loss", name), make_prediction(), make_batch()
        before = loss(prediction, batch).sum()
        before.backward()
        squared = sum(gradient.square().sum() for gradient in gradients(prediction))
        assert squared > 0
        with torch.no_grad():
            for tensor in leaves(prediction):
                if tensor.grad is not None:
                    tensor -= 1e-3 * before.detach() / squared * tensor.grad
        assert loss(prediction, batch).sum() < before

    @pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
    def test_an_improper_weight_is_refused(self, name, weight):
        with pytest.raises(ValueError, match="weight must be finite and at least 0"):
            build("loss", name, weight=weight)


def one_sample(record, sample):
    return record.map(lambda tensor: tensor[sample : sample + 1])


def leaves(prediction):
    return [value for value in vars(prediction).values() if isinstance(value, torch.Tensor)] + [prediction.camera]


def gradients(prediction):
    return [tensor.grad for tensor in leaves(prediction) if tensor.grad is not None]
