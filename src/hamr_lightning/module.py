"""The LightningModule: composes the steps from image to silhouette, trains, validates and logs."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, cast

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer, RMSprop
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hamr_lightning.backbones import Backbone
from hamr_lightning.decoders import Decoder
from hamr_lightning.losses.base import Loss
from hamr_lightning.projection import project
from hamr_lightning.regressors import IterativeRegressor
from hamr_lightning.renderers.base import SilhouetteRenderer
from hamr_lightning.skeleton import ROOT
from hamr_lightning.types import HandBatch, HandParameters, HandPrediction
from hamr_lightning.validation import ValidationSet

PAPER_OPTIMIZER: Final = partial(RMSprop, lr=2e-4)

BATCHES_UNTIL_IDLE: Final = 20
"""Training batches after which a loss that has found no annotation is called idle."""


class HAMRModule(pl.LightningModule):
    """Hand mesh recovery from a crop around a hand (paper, Figure 2).

    Training logs ``train/loss`` and ``train/<loss>`` of the step; validation logs ``val/loss``, ``val/<loss>``,
    ``val/auc_3d`` (20 to 50 mm), ``val/joint_error_mm`` and ``val/miou`` of the epoch, all but ``val/loss`` only where
    the data has the annotation. ``<loss>`` is not weighted; ``loss`` is the weighted sum (Eq. 8). Of several validation
    sets, each has its own, ``val/<set>/loss`` and so on, and ``val/loss`` is their mean.

    Args:
        backbone: Makes heat-maps and features.
        regressor: Makes parameters of the features and the last stack's heat-maps.
        decoder: Makes a mesh, or joints alone, of the parameters.
        renderer: Makes the silhouette of the mesh; None for none.
        losses: The terms, by the name that they are logged under.
        optimizer: Makes the optimizer of the parameters; by default the paper's, RMSprop with learning rate 2e-4.
        scheduler: Makes the learning rate's scheduler of the optimizer. It steps every epoch, a ReduceLROnPlateau on
            ``val/loss`` after every validation.
        warmup_steps: Steps over which the learning rate grows linearly to its own, beside the scheduler. The paper
            tells of none, but RMSprop's averages start at 0, which makes its first steps up to ten times too long: the
            wide layers lose three units of four to them for good.

    Raises:
        ValueError: If there is no loss, a loss needs a silhouette and there is no renderer, or there is a renderer and
            the decoder has no mesh; or if ``warmup_steps`` is negative.
    """

    def __init__(
        self,
        backbone: Backbone,
        regressor: IterativeRegressor,
        decoder: Decoder,
        renderer: SilhouetteRenderer | None,
        losses: Mapping[str, Loss],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = PAPER_OPTIMIZER,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        _check_parts(decoder, renderer, losses)
        if warmup_steps < 0:
            raise ValueError(f"HAMRModule: warmup_steps must be at least 0, got {warmup_steps}")
        self.backbone = backbone
        self.regressor = regressor
        for network in (backbone, regressor):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder = decoder
        self.renderer = renderer
        self.losses = cast(Mapping[str, Loss], nn.ModuleDict(losses))
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._warmup_steps = warmup_steps
        self._validation: dict[str, ValidationSet] = {}
        self._idle = set(losses)
        self._batches_watched = 0

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> HandPrediction:
        """Predict hands from crops.

        Autocast reaches the convolutions alone. These work channels last, which is faster on CPUs and GPUs.

        Args:
            images: RGB in [0, 1], of right hands.
        """
        heatmaps, features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        estimates = self.regressor(torch.cat([features, heatmaps[:, -1]], dim=1))
        with torch.autocast(images.device.type, enabled=False):
            return self._reconstruct(estimates.float(), heatmaps.float())

    def training_step(self, batch: HandBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the total loss of a batch."""
        if self._idle:
            self._watch_for_idle_losses(batch)
        prediction = self(batch.image)
        means = {
            name: loss(prediction, batch).sum() / count
            for (name, loss), count in zip(self.losses.items(), self._valid_counts(batch), strict=True)
        }
        self._log_losses(means, "train/", len(batch))
        return self._weighted_sum(means)

    def on_train_epoch_end(self) -> None:
        """Name the losses that have been idle."""
        if self._batches_watched:  # a resumed run may begin with an epoch's end
            self._report_idle_losses()

    def on_validation_epoch_start(self) -> None:
        """Start the figures of every validation set anew."""
        loaders = self.trainer.val_dataloaders
        names = [f"{name}/" for name in loaders] if isinstance(loaders, Mapping) else [""]
        self._validation = {name: ValidationSet(dict(self.losses.items())).to(self.device) for name in names}

    def validation_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Take a batch into the figures of its set."""
        [*self._validation.values()][dataloader_idx].update(self(batch.image), batch)

    def on_validation_epoch_end(self) -> None:
        """Log the losses, and the metrics for which there was annotation."""
        totals = []
        for name, figures in self._validation.items():
            losses = figures.losses()
            totals.append(self._weighted_sum(losses))
            self._log_losses(losses, f"val/{name}", None)
            for metric, value in figures.metrics().items():
                self.log(f"val/{name}{metric}", value, prog_bar=True, sync_dist=True)
        if len(totals) > 1:
            self.log("val/loss", torch.stack(totals).mean(), prog_bar=True, sync_dist=True)

    def predict_step(self, batch: HandBatch, batch_idx: int) -> HandPrediction:
        """Return the prediction for a batch."""
        return self(batch.image)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, if there is one, the scheduler's configuration."""
        optimizer = self._make_optimizer(self.parameters())
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        configuration: dict[str, Any] = {"scheduler": scheduler, "interval": "epoch"}
        if isinstance(scheduler, ReduceLROnPlateau):
            configuration |= {"monitor": "val/loss", "frequency": self.trainer.check_val_every_n_epoch or 1}
        return {"optimizer": optimizer, "lr_scheduler": configuration}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, in the warm-up with a share of the learning rate."""
        share = min(1.0, (self.trainer.global_step + 1) / (self._warmup_steps + 1))
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = share * rate
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        finally:  # a checkpoint of an interrupted step holds the whole rate as well
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def _reconstruct(
        self,
        estimates: Float[Tensor, "b iterations n"],
        heatmaps: Float[Tensor, "b stacks maps hm_h hm_w"],
    ) -> HandPrediction:
        iterations = tuple(self._split(estimate) for estimate in estimates.unbind(dim=1))
        last = iterations[-1]
        mesh = self.decoder(last.global_orient, last.hand_pose, last.betas)
        root = mesh.joints[:, [ROOT]]
        vertices, joints = mesh.vertices - root, mesh.joints - root
        points = torch.cat([project(vertices, last.camera), vertices[..., 2:]], dim=-1)
        return HandPrediction(
            vertices=vertices,
            joints_3d=joints,
            joints_2d=project(joints, last.camera),
            points=points,
            parameters=last,
            iterations=iterations,
            heatmaps=heatmaps,
            silhouette=None if self.renderer is None else self.renderer(points),
        )

    def _split(self, estimate: Float[Tensor, "b n"]) -> HandParameters:
        decoder = self.decoder
        sizes = [3, decoder.orient_size, decoder.pose_size, decoder.shape_size]
        if estimate.shape[1] != sum(sizes):
            raise ValueError(
                f"HAMRModule: the regressor's parameter_count is {estimate.shape[1]}, but a camera and this decoder "
                f"take {' + '.join(map(str, sizes))} = {sum(sizes)} numbers"
            )
        return HandParameters(*estimate.split(sizes, dim=1))

    def _valid_counts(self, batch: HandBatch) -> Float[Tensor, "losses"]:
        """Count the samples that each loss is the mean over: on several ranks, their mean count, at least 1 in all.

        The ranks' gradients are averaged, so that the sum of them all is divided by the number of them all.
        """
        counts = torch.stack([loss.valid(batch).sum() for loss in self.losses.values()]).float()
        ranks = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = torch.distributed.get_world_size()
            torch.distributed.all_reduce(counts)
        return counts.clamp(min=1) / ranks

    def _weighted_sum(self, means: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        zero = torch.zeros((), device=self.device)
        return sum((self.losses[name].weight * value for name, value in means.items()), zero)

    def _log_losses(self, means: Mapping[str, Float[Tensor, ""]], stage: str, batch_size: int | None) -> None:
        # A training step's figures are the first rank's own: gathering them would cost every step a synchronisation.
        for name, value in {**means, "loss": self._weighted_sum(means)}.items():
            self.log(
                f"{stage}{name}",
                value.detach(),
                batch_size=batch_size,
                prog_bar=name == "loss",
                sync_dist=batch_size is None,
            )

    def _watch_for_idle_losses(self, batch: HandBatch) -> None:
        self._idle -= {name for name in self._idle if self.losses[name].valid(batch).any()}
        self._batches_watched += 1
        if self._batches_watched == BATCHES_UNTIL_IDLE:
            self._report_idle_losses()

    def _report_idle_losses(self) -> None:
        for name in sorted(self._idle):
            rank_zero_warn(
                f"loss {name!r} is idle: no sample so far has {' and '.join(self.losses[name].requires)}, "
                "so it is exactly 0. Train on data that has it, or remove the loss."
            )
        self._idle = set()


def _check_parts(decoder: Decoder, renderer: SilhouetteRenderer | None, losses: Mapping[str, Loss]) -> None:
    if not losses:
        raise ValueError("HAMRModule: losses must hold at least one loss, got none")
    if renderer is None:
        needy = [name for name, loss in losses.items() if loss.needs_silhouette]
        if needy:
            raise ValueError(
                f"HAMRModule: losses {', '.join(needy)} need a silhouette, but renderer is None; "
                "give a renderer or remove them"
            )
    elif decoder.faces is None:
        raise ValueError("HAMRModule: the decoder has no mesh to render; set renderer to None")
