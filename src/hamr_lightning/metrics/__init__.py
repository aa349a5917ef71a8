"""What is reported: alignments, errors as pure functions, and the torchmetrics classes that accumulate them.

Joints and vertices come in metres, camera axes, as :mod:`hamr_lightning.types` has them; errors are in millimetres.
"""

from hamr_lightning.metrics.accumulators import (
    PCKAUC,
    PCKAUC2D,
    FScore,
    MeanCameraError,
    MeanIoU,
    MeanJointError,
    MeanOverValid,
    MeanVertexError,
    MedianJointError,
)
from hamr_lightning.metrics.alignment import (
    ALIGNMENTS,
    Alignment,
    align,
    align_root_scale,
)
from hamr_lightning.metrics.errors import (
    area_under_curve,
    camera_errors,
    f_score,
    mask_iou,
    pck_curve,
    point_errors_2d,
    point_errors_mm,
)

__all__ = [
    "ALIGNMENTS",
    "PCKAUC",
    "PCKAUC2D",
    "Alignment",
    "FScore",
    "MeanCameraError",
    "MeanIoU",
    "MeanJointError",
    "MeanOverValid",
    "MeanVertexError",
    "MedianJointError",
    "align",
    "align_root_scale",
    "area_under_curve",
    "camera_errors",
    "f_score",
    "mask_iou",
    "pck_curve",
    "point_errors_2d",
    "point_errors_mm",
]
