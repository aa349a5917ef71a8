"""Figures: annotated crops, predictions over photographs, and the course of training.

Pictures are RGB arrays; a function returns a new one and leaves its arguments as they are. 2D points are in crop units
(see :mod:`hamr_lightning.types`).
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
from torch import Tensor

from hamr_lightning.atomic import written_whole
from hamr_lightning.rasterizer import rasterize, shade, vertex_normals
from hamr_lightning.skeleton import BONES, JOINT_COUNT
from hamr_lightning.types import HandBatch, HandPrediction

_FINGER_COLOURS: Final = ((255, 92, 92), (255, 190, 60), (96, 220, 110), (70, 190, 255), (200, 130, 255))
_WRIST: Final = (245, 245, 245)
_ANNOTATED: Final = (200, 200, 200)
_NOT_COMPARED: Final = (130, 130, 130)
_MASK: Final = (60, 235, 190)
_MESH: Final = (150, 190, 250)
_BOTH: Final = (235, 245, 235)
_PREDICTED_ONLY: Final = (255, 140, 30)
_ANNOTATED_ONLY: Final = (60, 120, 255)
_BACKGROUND: Final = 24
_LEAST_TILE: Final = 200
_CURVES: Final = {"train": ("#4c8dd6", ""), "val": ("#e07a2c", "o")}
_SET_COLOURS: Final = ("#3f9b57", "#a35cc4", "#c8423f", "#8c6d3f", "#5f7f8c")

_SUBPIXEL_BITS: Final = 4
_FARTHEST: Final = 8.0  # crop units; OpenCV's integers overflow some way beyond
_MESH_DISTANCE: Final = 100.0  # crop units; from so far a perspective picture is orthographic
_SUPERSAMPLING: Final = 2


def draw_skeleton(
    image: UInt8[np.ndarray, "h w 3"],
    joints_2d: Float[np.ndarray, "21 2"],
    valid: Bool[np.ndarray, "21"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw joints and bones, a colour for each finger; none that is not valid, not finite or far outside the crop."""
    colours = (_WRIST, *(colour for colour in _FINGER_COLOURS for _ in range(4)))
    thickness = max(1, round(image.shape[0] / 110))
    outlined = _draw_joints(image, joints_2d, valid, [(0, 0, 0)] * JOINT_COUNT, thickness + 2)
    return _draw_joints(outlined, joints_2d, valid, colours, thickness)


def draw_mask(
    image: UInt8[np.ndarray, "h w 3"], mask: Float[np.ndarray, "mask_h mask_w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Tint what a mask in [0, 1], of any resolution, covers, and draw its outline at one half."""
    mask = _resized(mask, image)
    outlines, _ = cv2.findContours((mask >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(_blended(image, _MASK, 0.35 * mask), outlines, -1, _MASK, 1, cv2.LINE_AA)


def overlay_mesh(
    image: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a shaded mesh over a picture.

    Args:
        image: The crop.
        points: x, y and z in crop units, z being metres times the camera's s (larger is farther).
        faces: Triangles, counter-clockwise from outside.
    """
    height, width = (_SUPERSAMPLING * side for side in image.shape[:2])
    points_px = (points + np.array([1, 1, _MESH_DISTANCE])) * np.array([width / 2, height / 2, 1])
    fragments = rasterize(points_px, faces, height, width)
    brightness = shade(fragments, faces, vertex_normals(points, faces))
    covered = (fragments.face_index >= 0).astype(np.float32)
    brightness, covered = (_reduced(layer, image)[..., None] for layer in (brightness, covered))
    return _to_uint8(image * (1 - covered) + np.array(_MESH) * brightness)


def batch_sheet(batch: HandBatch) -> UInt8[np.ndarray, "h w 3"]:
    """Show every sample of a batch twice: plain, and with the mask and skeleton that it is annotated with."""
    pairs = [
        np.hstack([image, _with_joints(_with_mask(image, batch, index), batch, index)])
        for index, image in enumerate(map(_picture, batch.image))
    ]
    return _grid(pairs, columns=min(4, len(pairs)))


def prediction_sheet(
    batch: HandBatch, prediction: HandPrediction, faces: Int[Tensor, "f 3"] | None, count: int = 8, title: str = ""
) -> UInt8[np.ndarray, "h w 3"]:
    """Show a batch's first samples, a row each: input, skeleton, mesh and mask, beside what is annotated.

    Args:
        batch: The crops and their annotation, whatever there is of it.
        prediction: What the model says of them.
        faces: The mesh's triangles; None for a model without a mesh, whose column is then left out, as that of the
            mask is without a silhouette.
        count: The greatest number of rows, at least 1.
        title: A line above; empty for none.

    Raises:
        ValueError: If ``count`` is less.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rows = [_prediction_tiles(batch, prediction, faces, index) for index in range(min(count, len(batch)))]
    header = np.hstack([_label(text, tile.shape[1]) for text, tile in rows[0].items()])
    heading = [_label(title, header.shape[1]), header] if title else [header]
    return np.vstack([*heading, *(np.hstack(list(tiles.values())) for tiles in rows)])


def plot_training(metrics_csv: str | Path, path: str | Path) -> None:
    """Plot a run's metrics over its steps to a PNG: a panel for each, training and validation together.

    Args:
        metrics_csv: A table as Lightning's CSV logger writes it: columns ``step``, ``train/<metric>``,
            ``val/<metric>`` and others; empty fields are left out.
        path: Where the figure goes; written whole or not at all.

    Raises:
        ValueError: If the table is missing or holds no metric.
    """
    curves = _read_curves(Path(metrics_csv))
    panels = list(dict.fromkeys(name.rpartition("/")[2] for name in curves))
    panels.sort(key=lambda panel: panel != "loss")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), dpi=110, layout="constrained")
    for panel, axes in zip(panels, figure.subplots(rows, columns, squeeze=False).flat, strict=False):
        _plot_panel(axes, panel, curves)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    _save_figure(figure, path)


def plot_pck(
    curves: Mapping[str, tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]], title: str, unit: str, path: str | Path
) -> None:
    """Plot PCK curves (paper, Figures 6 to 8) to a PNG, each with the area under it.

    The picture's range, of which the areas are shares too, is the first curve's; one that does not cover it has no
    area.

    Args:
        curves: Increasing thresholds and the share of points within each, by the method's name.
        title: What the points are.
        unit: The thresholds' unit.
        path: Where the figure goes; written whole or not at all.
    """
    figure = Figure(figsize=(6.4, 4.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    low, high = next(iter(curves.values()))[0][[0, -1]].tolist()
    for name, curve in curves.items():
        axes.plot(*curve, label=f"{name}{_area_label(curve, low, high)}", linewidth=1.6)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(f"threshold ({unit})")
    axes.set_ylabel("share of points within")
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9)
    _save_figure(figure, path)


def save_png(image: UInt8[np.ndarray, "h w 3"], path: str | Path) -> None:
    """Write a picture as PNG, whole or not at all, making its folder if need be."""
    _, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with written_whole(path) as file:
        file.write_bytes(content.tobytes())


def _save_figure(figure: Figure, path: str | Path) -> None:
    with written_whole(path) as file:
        figure.savefig(file, format="png")


def _area_label(curve: tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]], low: float, high: float) -> str:
    thresholds, pck = curve
    if thresholds[0] > low or thresholds[-1] < high:
        return ""
    inside = thresholds[(thresholds > low) & (thresholds < high)]
    steps = np.concatenate([[low], inside, [high]])
    return f" (AUC {trapezoid(np.interp(steps, thresholds, pck), steps) / (high - low):.3f})"


def _draw_joints(
    image: UInt8[np.ndarray, "h w 3"],
    joints_2d: Float[np.ndarray, "21 2"],
    valid: Bool[np.ndarray, "21"] | None,
    colours: Sequence[tuple[int, int, int]],
    thickness: int,
) -> UInt8[np.ndarray, "h w 3"]:
    drawn = image.copy()
    shown = (np.abs(joints_2d) < _FARTHEST).all(axis=1) & (True if valid is None else valid)
    index_px = (np.where(shown[:, None], joints_2d, 0) + 1) * np.array(image.shape[1::-1]) / 2 - 0.5
    ends = [tuple(map(int, end)) for end in np.rint(index_px * 2**_SUBPIXEL_BITS)]
    for parent, child in BONES:
        if shown[parent] and shown[child]:
            cv2.line(drawn, ends[parent], ends[child], colours[child], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    for joint in np.flatnonzero(shown).tolist():
        radius = (thickness + 1) << _SUBPIXEL_BITS
        cv2.circle(drawn, ends[joint], radius, colours[joint], -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return drawn


def _with_mask(image: UInt8[np.ndarray, "h w 3"], batch: HandBatch, index: int) -> UInt8[np.ndarray, "h w 3"]:
    mask = _annotated_mask(batch, index)
    return image if mask is None else draw_mask(image, mask)


def _with_joints(image: UInt8[np.ndarray, "h w 3"], batch: HandBatch, index: int) -> UInt8[np.ndarray, "h w 3"]:
    if batch.joints_2d is None:
        return image
    return draw_skeleton(image, _array(batch.joints_2d[index]), _array(batch.validity("joints_2d")[index]))


def _prediction_tiles(
    batch: HandBatch, prediction: HandPrediction, faces: Int[Tensor, "f 3"] | None, index: int
) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    image = _picture(batch.image[index])
    tiles = {"input": image, "skeleton (grey: annotated)": _predicted_skeleton(image, batch, prediction, index)}
    if faces is not None:
        scale_depth = np.array([1, 1, abs(prediction.camera[index, 0].item())])
        tiles["mesh"] = overlay_mesh(image, _array(prediction.points[index]) * scale_depth, _array(faces))
    if prediction.silhouette is not None:
        tiles["mask"] = _compared_masks(image, batch, prediction.silhouette, index)
    return tiles


def _predicted_skeleton(
    image: UInt8[np.ndarray, "h w 3"], batch: HandBatch, prediction: HandPrediction, index: int
) -> UInt8[np.ndarray, "h w 3"]:
    if batch.joints_2d is not None:
        annotated = _array(batch.joints_2d[index]), _array(batch.validity("joints_2d")[index])
        image = _draw_joints(image, *annotated, [_ANNOTATED] * JOINT_COUNT, 1)
    return draw_skeleton(image, _array(prediction.joints_2d[index]))


def _compared_masks(
    image: UInt8[np.ndarray, "h w 3"], batch: HandBatch, silhouettes: Float[Tensor, "b s s"], index: int
) -> UInt8[np.ndarray, "h w 3"]:
    predicted = _resized(_array(silhouettes[index]), image)
    annotated = _annotated_mask(batch, index)
    dark = np.full_like(image, _BACKGROUND)
    if annotated is None:
        return _blended(dark, _NOT_COMPARED, predicted)
    annotated = _resized(annotated, image)
    both = np.minimum(predicted, annotated)
    return _blended(
        _blended(_blended(dark, _BOTH, both), _PREDICTED_ONLY, predicted - both), _ANNOTATED_ONLY, annotated - both
    )


def _annotated_mask(batch: HandBatch, index: int) -> Float[np.ndarray, "h w"] | None:
    if batch.mask is None or not batch.has("mask")[index]:
        return None
    return _array(batch.mask[index])


def _blended(
    image: UInt8[np.ndarray, "h w 3"], colour: tuple[int, int, int], share: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    return _to_uint8(image + share[..., None] * (np.array(colour) - image))


def _reduced(layer: Float[np.ndarray, "fine_h fine_w"], image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return cv2.resize(layer, image.shape[1::-1], interpolation=cv2.INTER_AREA)


def _resized(mask: Float[np.ndarray, "mask_h mask_w"], image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    return cv2.resize(np.nan_to_num(mask).clip(0, 1), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _picture(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "tile_h tile_w 3"]:
    """Convert a crop, and enlarge a small one for what is to be drawn on it."""
    picture = _to_uint8(255 * _array(image).transpose(1, 2, 0))
    factor = math.ceil(_LEAST_TILE / min(picture.shape[:2]))
    return picture if factor == 1 else cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def _to_uint8(values: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.rint(values).clip(0, 255).astype(np.uint8, order="C")


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _grid(tiles: Sequence[UInt8[np.ndarray, "h w 3"]], columns: int) -> UInt8[np.ndarray, "grid_h grid_w 3"]:
    missing = [np.full_like(tiles[0], _BACKGROUND)] * (-len(tiles) % columns)
    whole = [*tiles, *missing]
    return np.vstack([np.hstack(whole[start : start + columns]) for start in range(0, len(whole), columns)])


def _label(text: str, width: int) -> UInt8[np.ndarray, "label_h label_w 3"]:
    label = np.full((28, width, 3), _BACKGROUND, np.uint8)
    parts = [(text, _WRIST)]
    if text == "mask":
        parts = [("mask: both", _BOTH), ("predicted", _PREDICTED_ONLY), ("annotated", _ANNOTATED_ONLY)]
    x = 6
    for part, colour in parts:
        cv2.putText(label, part, (x, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(part, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0] + 10
    return label


def _read_curves(path: Path) -> dict[str, Float[np.ndarray, "n 2"]]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: there are no metrics to plot")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    points = {name: [(float(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}
    curves = {name: np.array(values) for name, values in points.items() if values}
    if not curves:
        raise ValueError(f"{path} holds no metrics to plot")
    return curves


def _plot_panel(axes: Axes, panel: str, curves: dict[str, Float[np.ndarray, "n 2"]]) -> None:
    sets = [stage for stage in dict.fromkeys(name.rpartition("/")[0] for name in curves) if stage not in _CURVES]
    for name, curve in curves.items():
        stage, _, metric = name.rpartition("/")
        if metric == panel:
            colour, marker = _CURVES.get(stage) or (_SET_COLOURS[sets.index(stage) % len(_SET_COLOURS)], "o")
            axes.plot(*curve.T, label=stage, color=colour, marker=marker, markersize=3.5, linewidth=1)
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    axes.set_title(panel.replace("_", " "), fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
