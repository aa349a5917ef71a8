import pytest
import torch

from hamr_lightning.regressors import MEAN_CAMERA_SCALE, HamrRegressor

SMALL = {"feature_channels": 6, "parameter_count": 22, "feature_size": 32, "hidden": 16}


def test_the_full_regressor_has_the_paper_s_layers():
    with torch.device("meta"):
        regressor = HamrRegressor(feature_channels=320, parameter_count=22)
    c = 320
    convolutions = 9 * c * (3 * c + 2 * c) + 9 * 2 * c * 4 * c + 9 * 4 * c * 2048 + 2048
    normalisations = 2 * (3 * c + 2 * c + 4 * c)
    layers = (2048 + 22 + 1) * 2048 + (2048 + 1) * 2048 + (2048 + 1) * 22
    count = sum(parameter.numel() for parameter in regressor.parameters())
    assert count == convolutions + normalisations + layers + 22 == 44_064_428
    dropouts = [module.p for module in regressor.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts == [0.4, 0.4]
    strides = [module.stride for module in regressor.modules() if isinstance(module, torch.nn.Conv2d)]
    assert strides == [(2, 2)] * 6


def test_fewer_convolutions_drop_those_as_wide_as_the_input():
    widths = [
        (module.in_channels, module.out_channels)
        for module in HamrRegressor(**SMALL, convolutions=4).modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    assert widths == [(6, 6), (6, 12), (12, 24), (24, 32)]


@pytest.mark.parametrize("size", [128, 64, 48, 32, 8])
def test_any_map_gives_an_estimate_an_iteration(size):
    regressor = HamrRegressor(**SMALL).eval()
    assert regressor(torch.rand(2, 6, size, size)).shape == (2, 3, 22)


def test_the_first_estimates_are_near_a_plausible_hand():
    estimates = HamrRegressor(**SMALL).eval()(torch.rand(4, 6, 64, 64))
    mean = torch.zeros(22)
    mean[0] = MEAN_CAMERA_SCALE
    torch.testing.assert_close(estimates[:, 0], mean.expand(4, -1), atol=0.1, rtol=0)


def test_each_iteration_corrects_its_own_last_estimate():
    regressor = HamrRegressor(**SMALL, iterations=4).eval()
    for parameter in regressor.corrector.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    features = torch.rand(2, 6, 64, 64)
    estimates = regressor(features)
    vector = regressor.encoder(features).flatten(1)
    estimate = regressor.start.expand(2, -1)
    for iteration in range(4):
        first, _, _, second, _, _, last = regressor.corrector
        x = (vector @ first.weight[:, :32].T + estimate @ first.weight[:, 32:].T + first.bias).clamp(min=0)
        x = (x @ second.weight.T + second.bias).clamp(min=0)
        estimate = estimate + x @ last.weight.T + last.bias
        torch.testing.assert_close(estimates[:, iteration], estimate)


def test_dropout_acts_in_training_only():
    regressor = HamrRegressor(**SMALL)
    features = torch.rand(2, 6, 64, 64)
    assert not torch.equal(regressor.train()(features), regressor(features))
    assert torch.equal(regressor.eval()(features), regressor(features))


@pytest.mark.parametrize(("convolutions", "size"), [(6, 64), (5, 32)])
def test_a_batch_of_one_trains_on_a_map_that_ends_as_one_pixel(convolutions, size):
    regressor = HamrRegressor(**SMALL, convolutions=convolutions).train()
    assert regressor(torch.rand(1, 6, size, size)).isfinite().all()


def test_estimates_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert HamrRegressor(**SMALL).eval()(torch.rand(1, 6, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"parameter_count": 2}, "parameter_count must be at least 3, got 2"),
        ({"convolutions": 2}, "convolutions must be at least 3, got 2"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1\.0"),
    ],
)
def test_an_argument_out_of_range_is_named(argument, message):
    with pytest.raises(ValueError, match=message):
        HamrRegressor(**(SMALL | argument))
