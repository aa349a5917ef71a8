"""What is measured of each sample, by name: errors of its joints, vertices, mask and camera.

A measure is a function of predictions and a batch that returns values, (b, n), and which of them count: those that the
batch has the annotation for.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hamr_lightning.crop_geometry import shown_by_source, to_source_pixels
from hamr_lightning.metrics import align, camera_errors, f_score, mask_iou, point_errors_2d, point_errors_mm
from hamr_lightning.projection import fit_camera
from hamr_lightning.skeleton import FINGERTIPS, ROOT
from hamr_lightning.types import HandBatch, HandPrediction

Measured: TypeAlias = tuple[Float[Tensor, "b n"], Bool[Tensor, "b n"]]
Measure: TypeAlias = Callable[[HandPrediction, HandBatch], Measured]


def _joints_mm(alignment: str) -> Measure:
    def measure(prediction: HandPrediction, batch: HandBatch) -> Measured:
        if batch.joints_camera is None:
            return _nothing(batch)
        valid = batch.validity("joints_camera")
        valid = valid & valid[:, [ROOT]]  # finger tips alone, which Procrustes too could align, are another measure
        return point_errors_mm(prediction.joints_3d, batch.joints_camera, valid, alignment)

    return measure


def _tips_mm(prediction: HandPrediction, batch: HandBatch) -> Measured:
    if batch.joints_camera is None:
        return _nothing(batch)
    tips = list(FINGERTIPS)
    valid = batch.validity("joints_camera")[:, tips]
    return point_errors_mm(prediction.joints_3d[:, tips], batch.joints_camera[:, tips], valid, "centroid_scale")


def _joints_px(prediction: HandPrediction, batch: HandBatch) -> Measured:
    if batch.joints_2d is None or batch.crop_to_image is None:
        return _nothing(batch)
    predicted, annotated = (to_source_pixels(joints, batch) for joints in (prediction.joints_2d, batch.joints_2d))
    return point_errors_2d(predicted, annotated), batch.validity("joints_2d")


def _joints_crop(prediction: HandPrediction, batch: HandBatch) -> Measured:
    if batch.joints_2d is None:
        return _nothing(batch)
    return point_errors_2d(prediction.joints_2d, batch.joints_2d), batch.validity("joints_2d")


def _vertices_mm(alignment: str) -> Measure:
    def measure(prediction: HandPrediction, batch: HandBatch) -> Measured:
        if batch.vertices is None or prediction.vertices.shape != batch.vertices.shape:
            return _nothing(batch)
        valid = batch.validity("vertices")[:, None].expand(batch.vertices.shape[:2])
        return point_errors_mm(prediction.vertices, batch.vertices, valid, alignment)

    return measure


def _f_score(threshold_mm: float, alignment: str) -> Measure:
    def measure(prediction: HandPrediction, batch: HandBatch) -> Measured:
        if batch.vertices is None or prediction.vertices.shape != batch.vertices.shape:
            return _nothing(batch)
        valid = batch.validity("vertices")
        points = valid[:, None].expand(batch.vertices.shape[:2])
        aligned, usable = align(prediction.vertices, batch.vertices, points, alignment)
        scores = f_score(aligned.to(prediction.vertices), batch.vertices, threshold_mm)
        return scores[:, None], (valid & usable.to(valid.device))[:, None]

    return measure


def _iou(prediction: HandPrediction, batch: HandBatch) -> Measured:
    if batch.mask is None or prediction.silhouette is None:
        return _nothing(batch)
    shown = shown_by_source(batch, prediction.silhouette.shape[-1])
    return mask_iou(shown * prediction.silhouette, batch.mask)[:, None], batch.validity("mask")[:, None]


def _iou_two_classes(prediction: HandPrediction, batch: HandBatch) -> Measured:
    hand, valid = _iou(prediction, batch)
    if batch.mask is None or prediction.silhouette is None:
        return hand, valid
    shown = shown_by_source(batch, prediction.silhouette.shape[-1])
    background = mask_iou(
        shown * (1 - prediction.silhouette), shown_by_source(batch, batch.mask.shape[-1]) - batch.mask
    )
    return (hand + background[:, None]) / 2, valid


def _camera(part: int) -> Measure:
    def measure(prediction: HandPrediction, batch: HandBatch) -> Measured:
        if batch.joints_3d is None or batch.joints_2d is None:
            return _nothing(batch)
        valid = batch.validity("joints_3d") & batch.validity("joints_2d")
        *errors, counts = camera_errors(prediction.camera, fit_camera(batch.joints_3d, batch.joints_2d, valid))
        return errors[part][:, None], counts[:, None]

    return measure


def _nothing(batch: HandBatch) -> Measured:
    shape = (len(batch), 1)
    return batch.image.new_zeros(shape), torch.zeros(shape, dtype=torch.bool, device=batch.image.device)


MEASURES: Final[Mapping[str, Measure]] = {
    "joints_root_mm": _joints_mm("root"),
    "joints_root_scale_mm": _joints_mm("root_scale"),
    "joints_procrustes_mm": _joints_mm("procrustes"),
    "tips_centroid_scale_mm": _tips_mm,
    "joints_px": _joints_px,
    "joints_crop": _joints_crop,
    "vertices_root_mm": _vertices_mm("none"),
    "vertices_procrustes_mm": _vertices_mm("procrustes"),
    "f_5mm_root": _f_score(5.0, "none"),
    "f_15mm_root": _f_score(15.0, "none"),
    "f_5mm_procrustes": _f_score(5.0, "procrustes"),
    "f_15mm_procrustes": _f_score(15.0, "procrustes"),
    "iou": _iou,
    "iou_two_classes": _iou_two_classes,
    "camera_scale": _camera(0),
    "camera_mm": _camera(1),
}
"""Every measure by its name: what, how the prediction is aligned, and the unit."""
