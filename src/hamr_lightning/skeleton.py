"""The hand's 21 joints, its bones, and the orders and finger tips that other models and data sets use.

Joints run from base to tip: 0 wrist, 1-4 thumb, 5-8 index, 9-12 middle, 13-16 ring, 17-20 pinky.
Every data set and hand model is mapped to this order at its own border.
"""

from typing import Final

JOINT_COUNT: Final = 21
ROOT: Final = 0

FINGERS: Final = {
    "thumb": (1, 2, 3, 4),
    "index": (5, 6, 7, 8),
    "middle": (9, 10, 11, 12),
    "ring": (13, 14, 15, 16),
    "pinky": (17, 18, 19, 20),
}
"""Each finger's joints, base to tip."""

FINGERTIPS: Final = tuple(joints[-1] for joints in FINGERS.values())

JOINT_NAMES: Final = (
    "wrist",
    *(f"{finger}_{part}" for finger in FINGERS for part in ("1", "2", "3", "tip")),
)

PARENTS: Final = tuple(-1 if joint == ROOT else ROOT if joint % 4 == 1 else joint - 1 for joint in range(JOINT_COUNT))

BONES: Final = tuple((parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0)
"""The 20 bones as (parent, child)."""

MANO_JOINT_NAMES: Final = (
    "wrist",
    *(f"{finger}_{part}" for finger in ("index", "middle", "pinky", "ring", "thumb") for part in "123"),
)
"""MANO's 16 joints in MANO's own order: note that the pinky comes before the ring finger."""

MANO_PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

MANO_TO_JOINTS: Final = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Indexes MANO's 16 joints followed by five finger tips (thumb to pinky) into the library's order."""

FINGERTIP_VERTICES: Final = {
    "hamr": (734, 333, 443, 555, 678),
    "smplx": (744, 320, 443, 554, 671),
    "freihand": (744, 320, 443, 555, 672),
    "manopth": (745, 317, 444, 556, 673),
    "ho3d": (744, 333, 444, 555, 672),
}
"""Mesh vertices that serve as finger tips, thumb to pinky, by whose convention it is. HAMR's is the default."""
