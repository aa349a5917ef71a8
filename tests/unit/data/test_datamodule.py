"""The data module: who gets which sample, in every process and epoch."""

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.base import HandDataset, HandSample
from hamr_lightning.data.datamodule import HandDataModule
from hamr_lightning.data.loading import EpochSampler, SampleError
from hamr_lightning.errors import UserError
from hamr_lightning.losses.heatmap import gaussian_heatmaps


class Squares(HandDataset):
    """Sample ``index`` of ``epoch`` says so in its source; ``broken`` cannot be read."""

    def __init__(self, length=10, broken=()):
        self.length, self.broken = length, broken

    def __len__(self):
        return self.length

    def sample(self, index, epoch):
        if index in self.broken:
            raise ValueError(f"folder/{index}.png is broken; copy it again")
        generator = np.random.default_rng([index, epoch])
        image = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        return HandSample(image, f"{epoch}:{index}", bool(index % 2), generator.uniform(5, 15, (21, 2)))


def data_module(rank=0, replicas=1, train=10, val=7, **arguments):
    module = HandDataModule(Squares(train), Squares(val), **({"batch_size": 2, "image_size": 16} | arguments))
    module.trainer = SimpleNamespace(global_rank=rank, world_size=replicas)
    return module


def sources(loader, epoch=None):
    if epoch is not None:
        loader.sampler.set_epoch(epoch)
    return [source for batch in loader for source in batch.sources]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(replicas):
    loaders = [data_module(rank, replicas, train=13, seed=4).train_dataloader() for rank in range(replicas)]
    for epoch in range(3):
        shares = [sources(loader, epoch) for loader in loaders]
        dealt = [source for share in shares for source in share]

        assert len({len(share) for share in shares}) == 1
        assert len(set(dealt)) == len(dealt) == 13 // replicas // 2 * 2 * replicas
        assert all(source.startswith(f"{epoch}:") for source in dealt)


def test_every_epoch_has_its_own_order():
    orders = [list(EpochSampler(50, seed)) for seed in (0, 0, 1)]
    sampler = EpochSampler(50)
    sampler.set_epoch(1)
    later = [index for _, index in sampler]

    assert orders[0] == orders[1] != orders[2]
    assert sorted(later) == list(range(50))
    assert later != [index for _, index in orders[0]]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_validation_takes_every_sample_once(replicas):
    taken = [sources(data_module(rank, replicas).val_dataloader()) for rank in range(replicas)]

    assert sorted(source for share in taken for source in share) == [f"0:{index}" for index in range(7)]


@pytest.fixture(scope="module")
def batches_of_two_workers():
    loader = data_module(workers=2, augmentation=Augmentation()).train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
    return epochs


@pytest.mark.parametrize("epoch", [0, 1])
def test_workers_change_nothing(batches_of_two_workers, epoch):
    loader = data_module(augmentation=Augmentation()).train_dataloader()
    loader.sampler.set_epoch(epoch)

    for batch, of_workers in zip(loader, batches_of_two_workers[epoch], strict=True):
        assert batch.sources == of_workers.sources
        assert torch.equal(batch.image, of_workers.image)
        assert torch.equal(batch.joints_2d, of_workers.joints_2d)


def test_augmentation_follows_seed_epoch_and_index_only():
    def crop_of(key, **arguments):
        batch = data_module(augmentation=Augmentation(), **arguments).train_dataloader().dataset[key]
        return batch.crop_to_image

    assert torch.equal(crop_of((3, 5), seed=1), crop_of((3, 5), seed=1, rank=1, replicas=2, batch_size=4))
    assert not torch.equal(crop_of((3, 5), seed=1), crop_of((3, 5), seed=2))


def test_validation_is_not_augmented():
    module = data_module(augmentation=Augmentation(rotation=60.0))

    assert all(batch.crop_to_image[:, 0, 1].abs().max() < 1e-6 for batch in module.val_dataloader())
    assert all(batch.crop_to_image[:, 0, 1].abs().max() > 1e-3 for batch in module.train_dataloader())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_is_left_out_named_and_counted_once(workers):
    module = HandDataModule(Squares(broken=(3,)), Squares(3, broken=(1,)), batch_size=2, image_size=16, workers=workers)

    with pytest.warns(UserWarning, match="skipped, 1 of at most 10: folder/1.png is broken; copy it again"):
        assert sources(module.val_dataloader()) == ["0:0", "0:2"]
    loader = module.train_dataloader()
    with pytest.warns(UserWarning, match="skipped, 2 of at most 10: folder/3.png is broken; copy it again"):
        taken = [sources(loader, epoch) for epoch in range(2)]

    for epoch, epoch_sources in enumerate(taken):
        assert sorted(set(epoch_sources)) == [f"{epoch}:{index}" for index in range(10) if index != 3]
        assert len(epoch_sources) == 10  # the batch is full all the same
    assert [reason.split()[0] for reason in module.skipped] == ["folder/1.png", "folder/3.png"]


def test_a_validation_batch_without_a_sample_is_left_out():
    module = HandDataModule(Squares(), Squares(5, broken=(0, 1)), batch_size=2, image_size=16)

    with pytest.warns(UserWarning, match="skipped"):
        assert [len(batch) for batch in module.val_dataloader()] == [2, 1]


def test_more_broken_samples_than_may_be_end_the_run():
    module = HandDataModule(Squares(), Squares(9, broken=range(4)), batch_size=2, image_size=16, max_skipped=2)

    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(SampleError, match=r"3 sample.* more than data.max_skipped, 2: .*folder/0.*folder/1.*folder/2"),
    ):
        list(module.val_dataloader())


def test_a_training_batch_without_a_sample_ends_the_run():
    module = HandDataModule(Squares(4, broken=range(4)), Squares(), batch_size=2, image_size=16)

    with pytest.warns(UserWarning, match="skipped"), pytest.raises(SampleError, match="no sample of a training batch"):
        list(module.train_dataloader())


def test_heat_maps_are_made_where_the_key_points_are_and_not_shipped():
    batch = next(iter(data_module().train_dataloader()))
    shapes = {name: value.shape for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    on_device = gaussian_heatmaps(batch.joints_2d.to("meta"), 8, 8, 1.0)

    assert [name for name, shape in shapes.items() if len(shape) > 3] == ["image"]
    assert on_device.device.type == "meta"


def test_several_validation_sets_have_their_names():
    module = HandDataModule(Squares(), {"one": Squares(2), "two": Squares(3)}, batch_size=2, image_size=16)

    assert {name: len(sources(loader)) for name, loader in module.val_dataloader().items()} == {"one": 2, "two": 3}


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("workers", -1), ("seed", -1), ("image_size", 0)])
def test_bounds(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        HandDataModule(Squares(), Squares(), **{name: value})


def test_a_data_set_too_small_is_refused():
    with pytest.raises(UserError, match=r"batch_size is 6, but 10 training samples on 2 rank.* more than 5"):
        data_module(replicas=2, batch_size=6).train_dataloader()
    with pytest.raises(UserError, match=r"2 samples, which is too few for 3 rank"):
        data_module(replicas=3, val=2).val_dataloader()


def test_lightning_trains_on_it():
    class Spy(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen = {"train": [], "val": []}

        def training_step(self, batch, batch_idx):
            self.seen["train"] += batch.sources
            return self.weight * batch.image.mean()

        def validation_step(self, batch, batch_idx):
            self.seen["val"] += batch.sources

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    spy = Spy()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(spy, HandDataModule(Squares(), Squares(7), batch_size=2, image_size=16))

    assert sorted(spy.seen["train"]) == [f"{epoch}:{index}" for epoch in range(2) for index in range(10)]
    assert spy.seen["val"] == 2 * [f"0:{index}" for index in range(7)]
