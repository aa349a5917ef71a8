"""The figures of a validation set, over its batches and over ranks that do not have the same annotation."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import evaluated_hands
from hamr_lightning.losses.joints_3d import Joints3DLoss
from hamr_lightning.types import HandBatch
from hamr_lightning.validation import ValidationSet


def test_there_are_the_metrics_that_the_annotation_allows(make_prediction, make_batch):
    figures = ValidationSet({})
    figures.update(make_prediction(), make_batch(joints_3d=None))
    assert [*figures.metrics()] == ["miou"]
    figures.update(make_prediction(silhouette=None), make_batch())
    assert [*figures.metrics()] == ["auc_3d", "joint_error_mm", "miou"]


def test_the_root_alone_has_no_error(make_prediction, make_batch):
    figures = ValidationSet({})
    only_root = (torch.arange(21) == 0).expand(2, 21)
    figures.update(make_prediction(), make_batch(joints_3d_valid=only_root, mask=None))
    assert figures.metrics() == {}


RANK_SCRIPT = """
import sys, torch, torch.distributed as dist
sys.path[:0] = [".", ".."]
from test_validation import figures_of
rank, store, output = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
figures = figures_of([0, 1, 2] if rank == 0 else [3])
dist.destroy_process_group()
torch.save(figures, output)
"""


def figures_of(samples):
    """Return what a set says whose last sample alone has no annotation."""
    generator = torch.Generator().manual_seed(0)
    joints, predicted = torch.randn(2, 4, 21, 3, generator=generator) * 0.03
    figures = ValidationSet({"joints_3d": Joints3DLoss()})
    for sample in samples:
        batch = HandBatch(image=torch.zeros(1, 3, 8, 8), joints_3d=None if sample == 3 else joints[[sample]])
        prediction = evaluated_hands.make_prediction(predicted[[sample]], torch.zeros(1, 21, 2), torch.ones(1, 3))
        figures.update(prediction, batch)
    return {**figures.losses(), **figures.metrics()}


def test_a_rank_without_annotation_does_not_matter(tmp_path):
    def start(rank):
        arguments = map(str, (rank, tmp_path / "store", tmp_path / f"{rank}.pt"))
        return subprocess.Popen([sys.executable, "-c", RANK_SCRIPT, *arguments], cwd=here)

    here = Path(__file__).parent
    assert [process.wait(timeout=120) for process in [start(0), start(1)]] == [0, 0]
    alone = figures_of([0, 1, 2, 3])
    for rank in range(2):
        together = torch.load(tmp_path / f"{rank}.pt")
        assert together.keys() == alone.keys() == {"joints_3d", "auc_3d", "joint_error_mm"}
        assert {name: value.item() for name, value in together.items()} == pytest.approx(
            {name: value.item() for name, value in alone.items()}
        )
