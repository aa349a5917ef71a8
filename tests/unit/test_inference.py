import pytest
import torch
from torch import nn

import hamr_lightning as hl
from hamr_lightning.inference import for_inference
from small_recipe import SMALL_RECIPE


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RECIPE)
    torch.manual_seed(0)
    model = hl.load_recipe(path).build_model()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.running_var):
            nn.init.uniform_(values, 0.5, 2)
        for values in (norm.bias, norm.running_mean):
            nn.init.normal_(values)
    return model


def test_the_copy_predicts_the_same_without_a_silhouette(model):
    images = torch.rand(3, 3, 64, 64)
    ready = for_inference(model)
    expected, got = model.eval()(images), ready(images)
    assert got.silhouette is None
    for name in ("vertices", "joints_3d", "joints_2d", "camera", "heatmaps"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_no_batch_normalisation_is_left_and_nothing_to_train(model):
    ready = for_inference(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert not ready.training
    assert not any(parameter.requires_grad for parameter in ready.parameters())


def test_the_model_itself_stays_as_it_is(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ready = for_inference(model.train())
    nn.init.zeros_(ready.regressor.start)
    assert all(module.training for module in model.modules())
    assert model.renderer is not None
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_model_that_is_being_trained_is_copied_without_its_trainer(model, tmp_path):
    model.trainer = hl.load_recipe(tmp_path / "small.yaml").build_trainer(tmp_path / "run")
    assert for_inference(model)._trainer is None
    assert model._trainer is not None
