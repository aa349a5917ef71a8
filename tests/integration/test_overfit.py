"""A network that cannot learn eight samples by heart cannot learn: every step from image to losses takes part here."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import hamr_lightning as hl

EPOCHS, STEPS = 10, 60
OVERRIDES = [
    "data.val_count=8",
    "data.batch_size=8",
    "data.augmentation=null",
    "data.workers=0",
    "regressor.dropout=0",
    f"scheduler.T_max={EPOCHS}",
]


@pytest.mark.slow
def test_the_quickstart_network_learns_eight_samples_by_heart(tmp_path):
    recipe = hl.load_recipe("quickstart", OVERRIDES)
    (batch,) = recipe.build_datamodule().val_dataloader()
    assert len(batch) == 8
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # beside other tests, threads that wait for each other take longer than one
    try:
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        model = recipe.build_model()
        trainer.fit(model, DataLoader([batch] * STEPS, batch_size=None), DataLoader([batch], batch_size=None))
        with torch.no_grad():
            prediction = model.eval()(batch.image)
    finally:
        torch.set_num_threads(threads)
    error_mm = 1000 * (prediction.joints_3d - batch.joints_3d).norm(dim=-1).mean()
    covered, annotated = prediction.silhouette > 0.5, torch.nn.functional.avg_pool2d(batch.mask, 4) > 0.5
    iou = (covered & annotated).sum((1, 2)) / (covered | annotated).sum((1, 2))
    assert error_mm < 5
    assert iou.mean() > 0.85
