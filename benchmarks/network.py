"""The network: a training step, inference and memory, beside its convolutions alone."""

import multiprocessing
import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hamr_lightning as hl
from benchmarks.measure import Row, medians
from hamr_lightning.data.datamodule import HandDataModule
from hamr_lightning.inference import for_inference

STEPS = {"cpu": (("full", 4), ("quickstart", 16)), "cuda": (("full", 64), ("full", 256))}
IMAGES = {"cpu": (1, 16), "cuda": (1, 64, 256)}
CONVOLUTIONS = "its convolutions and linear layers alone"
PRODUCT = 8192
"""Side of the bf16 product whose rate is a GPU's limit."""


def rows(device: str) -> list[Row]:
    """Time steps of the recipes' losses and optimizers on rendered hands, and predictions."""
    table = [_step_row(device, recipe, batch) for recipe, batch in STEPS[device]]
    table += [_feeding_row(device)]
    return table + [row for count in IMAGES[device] for row in _inference_rows(device, count)]


def _step_row(device: str, recipe: str, count: int) -> Row:
    model, batch = _model_and_batch(device, recipe, count)
    name = f"training step, {recipe}, batch {count}"
    if device == "cpu":
        forward = partial(model, batch.image)
        timed = {"ours": _step(device, model, batch), "limit": _layers_alone(model, forward, backward=True)}
        times = medians(device, timed, seconds=30)
        return Row(name, times["ours"], limit=CONVOLUTIONS, least=times["limit"], images=count)
    least = _flops(lambda: _loss(model, batch).backward()) / _matrix_rate()
    plain, _ = _model_and_batch(device, recipe, count)
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for part in (model.backbone, model.regressor):
        part.compile()
    timed = {"ours": _step(device, model, batch), "float32, eager": _step("cpu", plain, batch)}
    times = medians(device, timed, seconds=20)
    peer = "float32, eager"
    return Row(f"{name}, bf16", times["ours"], peer, times[peer], "matrix rate", least, count)


def _feeding_row(device: str) -> Row:
    """Time steps on batches as the workers give them, beside steps on one batch that is there.

    On a CPU the workers have cores of their own, as in a training by hamr-fit.
    """
    name, augment = ("quickstart", "cpu") if device == "cpu" else ("full", "gpu")
    recipe = hl.load_recipe(name, [f"data.workers={_workers(device)}", f"data.augment={augment}", "scheduler=null"])
    model, data = recipe.build_model().to(device), recipe.build_datamodule()
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer, batches = model.configure_optimizers(), _forever(data, device)
    held = next(batches)
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, threads - _workers(device)))
    fed = medians(device, {"fed": lambda: _update(device, model, optimizer, next(batches))}, seconds=20)["fed"]
    batches.close()
    alone = medians(device, {"held": lambda: _update(device, model, optimizer, held)}, seconds=20)["held"]
    torch.set_num_threads(threads)
    part = f"training step, {name}, fed by {_workers(device)} worker(s)"
    return Row(part, fed, limit="the same on a batch that is there", least=alone, images=len(held))


def _workers(device: str) -> int:
    return 1 if device == "cpu" else multiprocessing.cpu_count() - 1


def _forever(data: HandDataModule, device: str) -> Generator[hl.HandBatch, None, None]:
    epoch = 0
    while True:
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            moved = data.transfer_batch_to_device(batch, torch.device(device), 0)
            yield data.on_after_batch_transfer(moved, 0)
        epoch += 1


def _inference_rows(device: str, count: int) -> list[Row]:
    """Time predictions in float32 on a CPU and under bf16 autocast on a GPU; ours is folded and compiled."""
    model = hl.load_recipe("full").build_model().to(device).eval()
    images = torch.rand(count, 3, 256, 256, device=device)
    folded, compiled = for_inference(model), for_inference(model)
    compiled.compile()

    def call(network: nn.Module) -> Callable[[], object]:
        def predict() -> object:
            with torch.no_grad(), _autocast(device):
                return network(images)

        return predict

    timed = {"model": call(model), "folded": call(folded), "compiled": call(compiled)}
    if device == "cpu":
        timed["limit"] = _layers_alone(folded, call(folded), backward=False)
        times = medians(device, timed, seconds=10)
    else:
        times = {**medians(device, timed, seconds=10), "limit": _flops(call(model)) / _matrix_rate()}
    limit, least = CONVOLUTIONS if device == "cpu" else "matrix rate", times["limit"]
    name = f"prediction, full, {count} image(s)"
    return [
        Row(f"{name}, {ours}", times[ours], "as trained", times["model"], limit, least, count)
        for ours in ("folded", "compiled")
    ]


def peak_memory(device: str) -> list[tuple[str, int]]:
    """Return the peak memory of a training step in bytes, by what was trained: the GPU's, or a CPU process's."""
    switches = ("false", "true")
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        peaks = [pool.apply(_peak, (device, switch)) for switch in switches]
    count = _memory_batch(device)
    return [
        (f"full, batch {count}, activation_checkpointing {switch}", peak)
        for switch, peak in zip(switches, peaks, strict=True)
    ]


def _peak(device: str, checkpointing: str) -> int:
    overrides = [f"backbone.activation_checkpointing={checkpointing}"]
    step = _step(device, *_model_and_batch(device, "full", _memory_batch(device), overrides))
    step()
    step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not getrusage's, which a new process takes over from the one that started it.
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def _memory_batch(device: str) -> int:
    return 8 if device == "cpu" else 64


def _model_and_batch(
    device: str, recipe: str, count: int, overrides: list[str] | None = None
) -> tuple[hl.HAMRModule, hl.HandBatch]:
    torch.manual_seed(0)
    overrides = [f"data.batch_size={count}", "data.workers=0", "scheduler=null", *(overrides or [])]
    built = hl.load_recipe(recipe, overrides)
    model = built.build_model().to(device)
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    return model, next(iter(built.build_datamodule().train_dataloader())).to(device)


def _step(device: str, model: hl.HAMRModule, batch: hl.HandBatch) -> Callable[[], None]:
    optimizer = model.configure_optimizers()
    return lambda: _update(device, model, optimizer, batch)


def _update(device: str, model: hl.HAMRModule, optimizer: torch.optim.Optimizer, batch: hl.HandBatch) -> None:
    optimizer.zero_grad()
    with _autocast(device):
        loss = _loss(model, batch)
    loss.backward()
    optimizer.step()


def _loss(model: hl.HAMRModule, batch: hl.HandBatch) -> Tensor:
    return model.training_step(batch, 0)


def _autocast(device: str) -> AbstractContextManager[None]:
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def _layers_alone(model: nn.Module, forward: Callable[[], object], backward: bool) -> Callable[[], None]:
    """Return a call of every convolution and linear layer that ``forward`` calls, on inputs of the same shapes."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((layer, torch.rand_like(inputs[0].detach())))

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        forward()
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for place, (layer, values) in enumerate(calls):
            inputs = values.requires_grad_(backward and place > 0)
            with torch.set_grad_enabled(backward):
                output = layer(inputs)
            if backward:
                needed = [layer.weight, *([inputs] if place > 0 else [])]
                torch.autograd.grad(output, needed, torch.ones_like(output))

    return run


def _flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _matrix_rate() -> float:
    """Return the operations a second of a large bf16 product."""
    a = torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=torch.bfloat16)
    seconds = medians("cuda", {"product": lambda: a @ a}, seconds=2)["product"]
    return 2 * PRODUCT**3 / seconds
