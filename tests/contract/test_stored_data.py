"""Every stored data set, written small in its own layout, passes verification, and a truncated picture does not."""

from functools import partial

import numpy as np
import pytest

from hamr_lightning.data.rhd_writer import SIZE, write_rhd
from hamr_lightning.data.synthetic import SyntheticDataset
from hamr_lightning.data.verification import verify
from hamr_lightning.hand_model import HandModel
from hamr_lightning.registry import available, build
from layouts.coco_hand import write_coco
from layouts.dexter_object import write_dexter_object
from layouts.freihand import write_freihand
from layouts.ho3d import write_ho3d
from layouts.stb import write_stb
from rendered_hands import known_hands


def write_rendered_rhd(root, split):
    write_rhd(root, split, SyntheticDataset(split, count=2, val_count=2, render_size=SIZE), HandModel.load("open"))


def write_coco_hand(root, split):
    K = np.array([[300.0, 0, 110], [0, 310, 95], [0, 0, 1]])
    arguments = write_coco(root, known_hands(2, K, 220, 190))
    del arguments["root"]
    return arguments


WRITERS = {
    "coco_hand": (write_coco_hand, ("train",)),
    "dexter_object": (lambda root, split: write_dexter_object(root), ("val",)),
    "freihand": (lambda root, split: write_freihand(root, split), ("train", "val")),
    "ho3d": (lambda root, split: write_ho3d(root, split=split), ("train", "val")),
    "rhd": (write_rendered_rhd, ("train", "val")),
    "stb": (lambda root, split: write_stb(root, split, frames=1), ("train", "val")),
}


def test_every_stored_data_set_is_here():
    assert {*WRITERS, "synthetic"} == set(available("dataset"))


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name, (_, splits) in WRITERS.items() for split in splits]
)
def test_nothing_is_wrong_until_a_picture_is_truncated(tmp_path, name, split):
    written = WRITERS[name][0](tmp_path, split)
    arguments = written if name == "coco_hand" else {}
    dataset = partial(build, "dataset", name, root=tmp_path, split=split, **arguments)
    report = verify(dataset, split)
    assert report.samples >= 2
    assert report.findings == ()

    source = dataset().sample(0, 0).source
    picture = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file() and str(path) in source)
    picture.write_bytes(picture.read_bytes()[:-100])
    findings = verify(dataset, split).findings
    assert [(finding.kind, finding.source) for finding in findings] == [("cannot be read", "sample 0")]
    assert str(picture) in findings[0].message
