"""A sample, rendered or stored, cropped, augmented and labelled, beside reading a PNG; on one core."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import albumentations
import cv2
import numpy as np
import torch

import hamr_lightning as hl
from benchmarks.measure import Row, medians
from hamr_lightning.data.augmentation import Augmentation
from hamr_lightning.data.crop import HandCrop
from hamr_lightning.data.loading import CroppedHands, collate, collate_uncoloured
from hamr_lightning.data.rhd import RhdDataset
from hamr_lightning.data.rhd_writer import SIZE, write_rhd
from hamr_lightning.data.synthetic import SyntheticDataset

STORED, BATCH = 64, 16
LIMIT = f"cv2.imread of a {SIZE} x {SIZE} PNG"
PEER = "OpenCV and albumentations"


def rows(device: str) -> list[Row]:
    """Time whole samples of 256 x 256 pixels, by the batch, with the paper's augmentation; no device plays a part."""
    with tempfile.TemporaryDirectory() as folder, _one_core():
        root = Path(folder)
        rendered = SyntheticDataset("val", val_count=STORED, render_size=SIZE)
        write_rhd(root, "val", rendered, hl.HandModel.load("open"))
        stored = RhdDataset(root, "val")
        pictures = sorted(root.glob("evaluation/color/*.png"))
        varied = HandCrop(augmentation=Augmentation())
        timed = {
            "rendered": _each(CroppedHands(SyntheticDataset(), varied, 0)),
            "stored": _each(CroppedHands(stored, varied, 0)),
            "uncoloured": _each(CroppedHands(stored, varied, 0), collate_uncoloured),
            "stored, plain": _each(CroppedHands(stored, HandCrop(), 0)),
            "peer": _peer(pictures),
            "png": _in_turn(lambda indices: [cv2.imread(str(pictures[index])) for index in indices]),
        }
        times = {name: seconds / BATCH for name, seconds in medians("cpu", timed, seconds=20).items()}
    least = times["png"]
    return [
        Row("sample rendered, cropped, augmented, labelled", times["rendered"], limit=LIMIT, least=least, images=1),
        Row("sample of RHD, as above", times["stored"], PEER, times["peer"], LIMIT, least, 1),
        Row("sample of RHD, colours left to the GPU", times["uncoloured"], limit=LIMIT, least=least, images=1),
        Row("sample of RHD, not augmented", times["stored, plain"], limit=LIMIT, least=least, images=1),
    ]


@contextmanager
def _one_core() -> Iterator[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _each(samples: CroppedHands, join: Callable[..., object] = collate) -> Callable[[], object]:
    return _in_turn(lambda indices: join(samples.__getitems__(indices)))


def _in_turn(get: Callable[[list[int]], object]) -> Callable[[], object]:
    numbers = count()
    return lambda: get([next(numbers) % STORED for _ in range(BATCH)])


def _peer(pictures: list[Path]) -> Callable[[], object]:
    """Read a picture and its mask and do the paper's augmentation with albumentations, crop and key points included."""
    augment = albumentations.Compose(
        [
            albumentations.Affine(scale=(0.9, 1.2), rotate=(-60, 60), p=1),
            albumentations.RandomCrop(200, 200),
            albumentations.Resize(256, 256),
            albumentations.ColorJitter((0.2, 1.8), (0.3, 1.7), (0.4, 1.6), (-0.1, 0.1), p=1),
            albumentations.GaussNoise(std_range=(0.01, 0.01), p=1),
        ],
        keypoint_params=albumentations.KeypointParams("xy", remove_invisible=False),
    )
    keypoints = np.random.default_rng(0).uniform(0, SIZE, (21, 2))

    def get(index: int) -> torch.Tensor:
        image = cv2.cvtColor(cv2.imread(str(pictures[index])), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(pictures[index].parents[1] / "mask" / pictures[index].name), cv2.IMREAD_GRAYSCALE)
        augmented = augment(image=image, mask=mask, keypoints=keypoints)
        return torch.from_numpy(augmented["image"].transpose(2, 0, 1)).float() / 255

    return _in_turn(lambda indices: torch.stack([get(index) for index in indices]))
