from itertools import pairwise

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from hamr_lightning.backbones import HourglassBackbone

SMALL = {"depth": 2, "channels": 16, "growth": 8, "heatmaps": 24}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def expected_count(stacks, depth, c, growth, maps):
    """Count by the paper's description, layer by layer; each batch normalisation has 2 numbers a channel."""

    def conv(inputs, outputs, k=3):
        return inputs * outputs * k * k + 2 * outputs

    widths = [c + growth * level for level in range(depth + 1)]
    levels = sum(conv(f, f) + conv(f, g) + conv(g, f) for f, g in pairwise(widths))
    hourglass = levels + conv(widths[-1], widths[-1]) + 2 * conv(c, c)
    stem = conv(3, c // 4, 7) + conv(c // 4, c // 2) + conv(c // 2, c // 2) + conv(c // 2, c)
    one_by_one = stacks * (c + 1) * maps + (stacks - 1) * ((c + 1) * c + (maps + 1) * c)
    return stem + stacks * hourglass + one_by_one


def test_the_full_network_has_the_size_of_the_authors():
    with torch.device("meta"):
        backbone = HourglassBackbone()
    assert count(backbone) == expected_count(2, 4, 256, 128, 64) == 69_680_064


def test_sizes_follow_the_arguments():
    backbone = HourglassBackbone(stacks=3, **SMALL).eval()
    assert count(backbone) == expected_count(3, 2, 16, 8, 24)
    assert (backbone.feature_channels, backbone.heatmap_channels) == (16, 24)
    heatmaps, features = backbone(torch.rand(2, 3, 48, 64))
    assert heatmaps.shape == (2, 3, 24, 12, 16)
    assert features.shape == (2, 16, 12, 16)


def test_every_3_by_3_convolution_is_normalised_and_none_pools_by_maximum():
    kinds = [type(module).__name__ for module in HourglassBackbone(**SMALL).modules()]
    assert kinds.count("BatchNorm2d") == kinds.count("ReLU")
    followers = [kinds[i + 1] for i, kind in enumerate(kinds) if kind == "Conv2d" and kinds[i - 1] == "Sequential"]
    assert followers
    assert set(followers) == {"BatchNorm2d"}
    assert "AvgPool2d" in kinds
    assert "MaxPool2d" not in kinds


def test_the_last_heatmaps_see_the_whole_image_and_the_features_only_their_surroundings():
    backbone = HourglassBackbone(**SMALL).eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    heatmaps, features = backbone(image)
    (seen_by_heatmap,) = torch.autograd.grad(heatmaps[0, -1, 0, 0, 0], image, retain_graph=True)
    (seen_by_feature,) = torch.autograd.grad(features[0, :, 0, 0].sum(), image)
    assert seen_by_heatmap[0, :, -1, -1].abs().sum() > 0
    assert seen_by_feature[0, :, 32:, 32:].abs().sum() == 0


def test_the_first_heatmaps_are_near_their_targets_background():
    heatmaps, _ = HourglassBackbone(**SMALL).train()(torch.rand(4, 3, 64, 64))
    assert heatmaps.abs().max() < 0.1


def test_an_image_that_does_not_halve_evenly_is_refused():
    with pytest.raises(ValueError, match=r"divisible by 4 \* 2\*\*depth = 16, got 64 x 40; choose another crop size"):
        HourglassBackbone(**SMALL)(torch.rand(1, 3, 64, 40))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"stacks": 0}, "stacks must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"channels": 30}, "channels must be a multiple of 4, got 30"),
        ({"growth": -1}, "growth must be at least 0, got -1"),
        ({"heatmaps": 20}, "heatmaps must be at least 21, got 20"),
    ],
)
def test_an_argument_out_of_range_is_named(argument, message):
    with pytest.raises(ValueError, match=message):
        HourglassBackbone(**(SMALL | argument))


def test_brightness_is_centred():
    backbone = HourglassBackbone(**SMALL).eval()
    seen = []
    backbone.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone(torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 16, 16))
    assert seen[0][:, 0, 0, 0].tolist() == [-1, 0, 1]


def trained_once(backbone, image):
    heatmaps, features = backbone(image)
    (heatmaps.square().mean() + features.square().mean()).backward()
    return backbone.state_dict() | {name: parameter.grad for name, parameter in backbone.named_parameters()}


def test_activation_checkpointing_changes_neither_gradients_nor_running_averages():
    plain = HourglassBackbone(stacks=2, **SMALL)
    saving = HourglassBackbone(stacks=2, **SMALL, activation_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 64, 64)
    expected, got = trained_once(plain, image), trained_once(saving, image)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert got["stem.0.1.num_batches_tracked"] == 1


def test_activation_checkpointing_allows_a_second_backward_pass():
    backbone = HourglassBackbone(stacks=2, **SMALL, activation_checkpointing=True)
    heatmaps, _ = backbone(torch.rand(2, 3, 64, 64))
    weights = list(backbone.stem.parameters())
    first = torch.autograd.grad(heatmaps.sum(), weights, retain_graph=True)
    averages = backbone.state_dict()["stem.0.1.running_mean"].clone()
    second = torch.autograd.grad(heatmaps.sum(), weights)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(averages, backbone.state_dict()["stem.0.1.running_mean"])


def test_activation_checkpointing_keeps_less():
    def bytes_kept(backbone):
        kept = {}
        with saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t.nbytes) and t, lambda t: t):
            backbone(torch.rand(2, 3, 64, 64))
        return sum(kept.values())

    plain = HourglassBackbone(stacks=2, **SMALL)
    saving = HourglassBackbone(stacks=2, **SMALL, activation_checkpointing=True)
    assert bytes_kept(saving) < 0.3 * bytes_kept(plain)
