"""Writes known left hands as Dexter+Object has them on disk."""

import cv2
import numpy as np

from rendered_hands import known_hands

WIDTH, HEIGHT = 640, 480
K = np.array([[587.45209, 0, 325], [0, 600.67456, 249], [0, 0, 1]])  # as published: of pixel indices
CONTINUOUS_K = K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
K_DEPTH = np.array([[224.502, 0, 160], [0, 230.494, 120], [0, 0, 1]])
DEPTH_TO_COLOUR = np.array(
    [
        [0.9999, 0.0034, 0.0161, 19.0473],
        [-0.0033, 1.0000, -0.0079, -1.8514],
        [-0.0162, 0.0079, 0.9998, -4.7501],
        [0, 0, 0, 1],
    ]
)
SEQUENCES = ("Grasp1", "Grasp2", "Occlusion", "Rigid", "Pinch", "Rotate")
TIPS = [4, 8, 12, 16, 20]


def write_dexter_object(root, frames=2, missing=(), labels="{}3D.txt"):
    """Write the six sequences and return their hands, one sequence after the other.

    Args:
        root: The folder that gets ``data``.
        frames: In each sequence.
        missing: Pairs of a hand's number in what is returned and a finger, thumb 0 to little finger 4.
        labels: The name of the file with the 3D annotation.
    """
    hands = known_hands(frames * len(SEQUENCES), CONTINUOUS_K, WIDTH, HEIGHT, left=True)
    for number, sequence in enumerate(SEQUENCES):
        folder = root / "data" / sequence
        for name in ("annotations", "color", "depth"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lines_2d, lines_3d = [], []
        for frame in range(frames):
            hand = number * frames + frame
            points, pixels = to_labels(hands[hand].joints_3d[TIPS])
            for finger in range(5):
                if (hand, finger) in missing:
                    points[finger, 2] = 32001
            lines_2d.append(to_line(pixels))
            lines_3d.append(to_line(points))
            cv2.imwrite(str(folder / "color" / f"image_{frame:05d}.png"), hands[hand].image[..., ::-1])
            cv2.imwrite(str(folder / "depth" / f"image_{frame:05d}.png"), np.full((240, 320), 500, np.uint16))
        (folder / "annotations" / f"{sequence}2D.txt").write_text("".join(lines_2d))
        (folder / "annotations" / labels.format(sequence)).write_text("".join(lines_3d))
    return hands


def to_labels(tips):
    """Return the tips in millimetres, x left and y up, in the depth camera's frame, and their pixels in its picture."""
    colour = np.column_stack([1000 * tips, np.ones(5)])
    depth = np.linalg.solve(DEPTH_TO_COLOUR, colour.T).T[:, :3]
    projected = depth @ K_DEPTH.T
    return depth * [-1, -1, 1], projected[:, :2] / projected[:, 2:]


def to_line(points):
    return " ".join(", ".join(f"{value:.6f}" for value in point) + ";" for point in points) + "\n"
