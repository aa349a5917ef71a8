"""Every data set that is stored, by its registered name: the splits that it has, and how to write a small copy."""

import numpy as np

from hamr_lightning.data.rhd_writer import SIZE, write_rhd
from hamr_lightning.data.synthetic import SyntheticDataset
from hamr_lightning.hand_model import HandModel
from layouts.coco_hand import write_coco
from layouts.dexter_object import write_dexter_object
from layouts.freihand import write_freihand
from layouts.ho3d import write_ho3d
from layouts.stb import write_stb
from rendered_hands import known_hands

SPLITS = {
    "coco_hand": ("train",),
    "dexter_object": ("val",),
    "freihand": ("train", "val"),
    "ho3d": ("train", "val"),
    "rhd": ("train", "val"),
    "stb": ("train", "val"),
}


def write_stored(name, root, split):
    """Write a split of two hands or more, of both sides where the set has both, and return the loader's arguments."""
    arguments = {"root": root, "split": split}
    match name:
        case "coco_hand":
            K = np.array([[300.0, 0, 110], [0, 310, 95], [0, 0, 1]])
            arguments |= write_coco(root, known_hands(1, K, 220, 190) + known_hands(1, K, 220, 190, left=True))
        case "dexter_object":
            write_dexter_object(root, missing=[(1, 3)])
        case "freihand":
            write_freihand(root, split)
        case "ho3d":
            write_ho3d(root, split=split)
        case "rhd":
            rendered = SyntheticDataset(split, count=2, val_count=2, render_size=SIZE)
            write_rhd(root, split, rendered, HandModel.load("open"))
        case "stb":
            write_stb(root, split, frames=1)
    return arguments
