"""Colours changed by kornia, a batch at a time, against the kernel that changes one crop's on the CPU."""

import sys
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.datamodule import HandDataModule
from hamr_lightning.data.device_colours import UncolouredBatch, colour
from hamr_lightning.data.loading import CroppedHands, collate_full, collate_uncoloured
from hamr_lightning.types import HandBatch

SIZE = 32
WILD = Augmentation(hue=0.5, noise=0.0)


class Photographs(HandDataset):
    """Sample 3 cannot be read; others have joints, and every second one a mask."""

    def __len__(self):
        return 8

    def sample(self, index, epoch):
        if index == 3:
            raise ValueError("folder/3.png is broken")
        generator = np.random.default_rng([index, epoch])
        image = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        image[:10] = image[:10, :, :1]
        mask = generator.integers(0, 256, (40, 40), dtype=np.uint8) if index % 2 else None
        joints = generator.uniform(5, 35, (21, 2))
        return HandSample(image, f"{epoch}:{index}", index % 4 == 0, joints, mask=mask)


def cut(augmentation, indices=range(8), epoch=0):
    dataset = CroppedHands(Photographs(), HandCrop(SIZE, augmentation=augmentation), seed=0)
    return dataset.__getitems__([(epoch, index) for index in indices])


def test_the_device_gives_what_the_cpu_gives():
    crops = cut(WILD)
    shipped = collate_uncoloured(crops)
    on_device, on_cpu = colour(shipped), collate_full(crops)

    assert isinstance(shipped, UncolouredBatch)
    assert shipped.pixels.dtype == torch.uint8
    assert on_device.skipped == on_cpu.skipped == ("folder/3.png is broken",)
    for name, expected in vars(on_cpu).items():
        if isinstance(expected, torch.Tensor) and name != "image":
            torch.testing.assert_close(getattr(on_device, name), expected)
    torch.testing.assert_close(on_device.image, on_cpu.image, atol=2e-5, rtol=0)
    assert on_device.sources == on_cpu.sources


def test_the_noise_is_the_batch_s_own_and_gaussian():
    augmentation = replace(Augmentation.none(), noise=0.05)
    crops = cut(augmentation)
    plain = collate_full(cut(Augmentation.none())).image
    noisy, again = (colour(collate_uncoloured(crops)).image for _ in range(2))
    other = colour(collate_uncoloured(cut(augmentation, epoch=1))).image
    free = (plain > 0.25) & (plain < 0.75)  # nothing is clipped there
    noise = (noisy - plain)[free]

    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    assert noise.std().item() == pytest.approx(0.05, rel=0.03)
    assert abs(noise.mean().item()) < 4 * 0.05 / noise.numel() ** 0.5
    assert noisy.aminmax() == (0, 1)


def test_every_sample_has_its_own_deviation():
    crops = [
        replace(crop, colours=crop.colours._replace(noise=deviation), pixels=np.full((SIZE, SIZE, 4), 128, np.uint8))
        for crop, deviation in zip(cut(Augmentation.none(), (0, 1, 2)), (0.0, 0.01, 0.1), strict=True)
    ]

    image = colour(collate_uncoloured(crops)).image

    np.testing.assert_allclose(image.flatten(1).std(dim=1), [0, 0.01, 0.1], rtol=0.05)


def test_a_batch_without_a_sample_has_no_colours():
    batch = collate_uncoloured(cut(WILD, (3, 3)))

    assert len(batch) == 0
    assert batch.skipped == 2 * ("folder/3.png is broken",)


class Spy(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_batches, self.val_batches = [], []

    def training_step(self, batch, batch_idx):
        self.train_batches.append(batch)
        return self.weight * batch.image.mean()

    def validation_step(self, batch, batch_idx):
        self.val_batches.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def data_module(**arguments):
    options = {"batch_size": 2, "image_size": SIZE, "augmentation": WILD, "augment": "gpu"}
    return HandDataModule(Photographs(), Photographs(), **(options | arguments))


def fit(data, folder, **arguments):
    spy = Spy()
    trainer = pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        **({"max_epochs": 1} | arguments),
    )  # fmt: skip
    trainer.fit(spy, data)
    return spy


@pytest.mark.filterwarnings("ignore:skipped")
def test_lightning_s_steps_see_the_same_batches_in_either_mode(tmp_path):
    on_device, on_cpu = (fit(data_module(augment=augment), tmp_path) for augment in ("gpu", "cpu"))

    for first, second in zip(on_device.train_batches, on_cpu.train_batches, strict=True):
        assert isinstance(first, HandBatch)
        assert first.sources == second.sources
        torch.testing.assert_close(first.image, second.image, atol=2e-5, rtol=0)
    for first, second in zip(on_device.val_batches, on_cpu.val_batches, strict=True):
        assert torch.equal(first.image, second.image)


@pytest.mark.filterwarnings("ignore:skipped")
def test_a_run_resumed_in_mid_epoch_repeats_its_noise(tmp_path):
    noisy = replace(WILD, noise=0.1)
    whole = fit(data_module(augmentation=noisy), tmp_path).train_batches
    data = data_module(augmentation=noisy)
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 0, "batches": 2})

    rest = [data.on_after_batch_transfer(batch, 0) for batch in loader]
    assert [batch.sources for batch in rest] == [batch.sources for batch in whole[2:]]
    assert all(torch.equal(one.image, other.image) for one, other in zip(rest, whole[2:], strict=True))


@pytest.mark.filterwarnings("ignore:skipped")
def test_previews_and_plain_crops_need_no_device():
    preview = list(data_module().crops("train"))
    plain = list(data_module(augmentation=None).train_dataloader())

    assert {batch.image.shape for batch in preview} == {(1, 3, SIZE, SIZE)}
    assert all(isinstance(batch, HandBatch) for batch in [*preview, *plain])


@pytest.mark.filterwarnings("ignore:skipped")
def test_workers_ship_the_same_bytes():
    for here, shipped in zip(data_module().train_dataloader(), data_module(workers=1).train_dataloader(), strict=True):
        assert torch.equal(here.pixels, shipped.pixels)
        assert torch.equal(here.factors, shipped.factors)
        assert (here.seed, here.annotation.sources) == (shipped.seed, shipped.annotation.sources)


def test_without_kornia_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia", None)

    with pytest.raises(ValueError, match=r"data\.augment: gpu needs kornia.*pip install kornia.*to cpu"):
        data_module()
    assert data_module(augment="cpu") is not None


def test_another_place_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse it before
    with pytest.raises(ValueError, match=r"data\.augment must be cpu or gpu, got 'tpu'"):
        data_module(augment="tpu")


def test_torchvision_stays_out():
    assert "torchvision" not in sys.modules


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_colours_are_the_same():
    crops = cut(WILD)
    batch = colour(collate_uncoloured(crops).to("cuda"))

    assert batch.image.is_cuda
    torch.testing.assert_close(batch.image.cpu(), collate_full(crops).image, atol=2e-5, rtol=0)
