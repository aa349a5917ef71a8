"""Verification: a whole set passes, and each thing that can be wrong is found, by name, and hides nothing else."""

import os
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from hamr_lightning.data.base import HandDataset
from hamr_lightning.data.coco_hand import CocoHandDataset
from hamr_lightning.data.verification import check_sample, verify
from hamr_lightning.errors import UserError
from layouts.coco_hand import coco_file, write_coco
from rendered_hands import known_hands

K = np.array([[300.0, 0, 110], [0, 310, 95], [0, 0, 1]])


@pytest.fixture(scope="module")
def hand():
    return known_hands(1, K, 220, 190)[0]


class Samples(HandDataset):
    """Gives samples, and raises those that are errors."""

    def __init__(self, *samples):
        self.samples = samples

    @property
    def published(self):
        return {"train": 3}

    def __len__(self):
        return len(self.samples)

    def sample(self, index, epoch):
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return self.samples[index]


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def found(sample):
    return list(check_sample(sample))


def test_nothing_is_wrong_with_known_hands():
    for left in (False, True):
        for hand in known_hands(5, K, 220, 190, left):
            assert found(hand) == []


def test_what_is_not_annotated_is_not_checked(hand):
    nothing = replace(hand, joints_3d=None, mask=None, intrinsics=None, vertices=None)
    assert found(nothing) == []
    some = np.arange(21) >= 3
    wrong = {
        "joints_2d_px": changed(hand.joints_2d_px, slice(3), 1e5),
        "joints_3d": changed(hand.joints_3d, slice(3), -1),
    }
    assert found(replace(hand, joints_2d_valid=some, joints_3d_valid=some, **wrong)) == []
    assert found(replace(nothing, joints_2d_valid=np.zeros(21, bool), box_px=np.array([1.0, 2, 30, 40]))) == []


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda h: {"joints_3d": changed(h.joints_3d, (4, 2), np.nan)}, "not finite", "joints_3d has 1 values of 63"),
        (lambda h: {"intrinsics": changed(h.intrinsics, (0, 0), np.inf)}, "not finite", "intrinsics has"),
        (lambda h: {"depth": np.full(h.image.shape[:2], np.nan)}, "not finite", "depth has"),
        (lambda h: {"joints_2d_valid": np.zeros(21, bool)}, "key points", "neither a key point nor a box"),
        (
            lambda h: {"joints_2d_px": h.joints_2d_px + 300, "intrinsics": None, "mask": None},
            "key points",
            "all lie out",
        ),
        (
            lambda h: {"joints_2d_px": changed(h.joints_2d_px, 3, [-111, 5]), "intrinsics": None},
            "key points",
            "one lies 111.0 pixels outside the picture of 220 x 190",
        ),
        (
            lambda h: {"joints_2d_px": h.joints_2d_px + np.array([2.1, 0])},
            "2D and 3D",
            r"lies 2\.1 pixels from its key point, 2",
        ),
        (lambda h: {"joints_3d": -h.joints_3d}, "2D and 3D", "21 joints lie behind the camera"),
        (
            lambda h: {"joints_3d": h.joints_3d * 1000},
            "bones",
            "wrist to thumb_1 is .* mm long, not 18 to 58; so are 19",
        ),
        (lambda h: {"joints_3d": h.joints_3d / 10}, "bones", "so are 19 other bones"),
        (lambda h: {"mask": np.zeros_like(h.mask)}, "mask", "the mask is empty"),
        (lambda h: {"mask": 255 - h.mask}, "mask", "of the mask lies away from the key points"),
        (lambda h: {"mask": np.full_like(h.mask, 255)}, "mask", "of the mask lies away from the key points"),
        (lambda h: {"mask": changed(np.zeros_like(h.mask), np.s_[:2, :2], 255)}, "mask", "holds 0% of the key points"),
    ],
)
def test_each_thing_that_can_be_wrong_is_found(hand, wrong, kind, message):
    findings = found(replace(hand, **wrong(hand)))
    assert any(kind == found_kind and re.search(message, text) for found_kind, text in findings), findings
    if kind in ("not finite", "bones"):
        assert {found_kind for found_kind, _ in findings} == {kind}


def test_pictures_of_different_sizes_are_found(hand):
    sample = replace(hand)
    object.__setattr__(sample, "mask", hand.mask[1:])
    assert found(sample) == [("sizes differ", "the image is of shape (190, 220), mask of (189, 220)")]


def test_fingers_from_tip_to_base_are_found(hand):
    order = [0, *(joint for base in (1, 5, 9, 13, 17) for joint in range(base + 3, base - 1, -1))]
    straight = np.tile([0, 0, 0.5], (21, 1))
    for base, across in zip((1, 5, 9, 13, 17), (-0.04, -0.02, 0, 0.02, 0.04), strict=True):
        for part, along in enumerate((0.09, 0.125, 0.15, 0.175)):
            straight[base + part] = [across, along, 0.5]
    flat = replace(hand, joints_2d_px=hand.joints_2d_px, intrinsics=None, joints_3d=straight[order], mask=None)
    assert [kind for kind, _ in found(flat)] == ["bones"]


def test_a_hand_that_things_hide_almost_whole_is_no_mistake(hand):
    x, y = hand.joints_2d_px[[4, 8]].astype(int).T
    little = np.zeros_like(hand.mask)
    for column, row in zip(x, y, strict=True):
        little[row - 3 : row + 4, column - 3 : column + 4] = 255
    assert found(replace(hand, mask=little)) == []


def test_every_sample_is_checked_whatever_the_others_raise(hand):
    samples = Samples(hand, ValueError("x.png is missing"), OSError("disk"), ZeroDivisionError("oops"), hand)
    seen = []
    report = verify(lambda: samples, "train", progress=lambda results, total: seen.append(total) or results)

    assert seen == [5]
    assert (report.samples, report.published) == (5, 3)
    assert [(finding.source, finding.message) for finding in report.findings] == [
        ("sample 1", "x.png is missing"),
        ("sample 2", "disk"),
        ("sample 3", "ZeroDivisionError: oops"),
    ]


def test_worker_processes_find_the_same(tmp_path, hand):
    hands = [hand] * 40
    content = coco_file(hands)
    content["annotations"][33]["joint_cam"] = [[1, 2, 3]] * 21
    arguments = write_coco(tmp_path, hands, content)
    for number in (3, 20):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"\x89PNG")

    report, alone = (verify(lambda: CocoHandDataset(**arguments), "train", workers) for workers in (2, 0))
    assert report == alone
    assert (report.samples, report.published) == (40, None)
    assert [finding.kind for finding in report.findings] == ["cannot be read", "cannot be read", "2D and 3D", "bones"]
    assert "3.png is broken" in report.findings[0].message
    assert report.findings[2].source.endswith("33.png, annotation 1033 of hands.json")


class Deadly(Samples):
    def sample(self, index, epoch):
        os._exit(1)


def test_a_process_that_dies_is_told(hand):
    with pytest.raises(UserError, match="a worker process died"):
        verify(lambda: Deadly(None), "train", workers=1)


def test_annotation_that_is_broken_or_warned_of_is_found(hand):
    def refuse():
        raise ValueError("anno.pickle cannot be read")

    def warn():
        warnings.warn("mask is missing", stacklevel=1)
        return Samples(hand)

    broken, incomplete = verify(refuse, "val"), verify(warn, "train")
    assert [(f.kind, f.message) for f in broken.findings] == [("cannot be read", "anno.pickle cannot be read")]
    assert [(f.kind, f.message) for f in incomplete.findings] == [("not whole", "mask is missing")]
    assert incomplete.samples == 1
    (none,) = verify(Samples, "val").findings
    assert none.message == "it has no sample"
