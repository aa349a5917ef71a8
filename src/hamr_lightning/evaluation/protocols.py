"""Protocols: which figures and plots an evaluation reports, after which publication."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Float

from hamr_lightning.metrics import area_under_curve, pck_curve
from hamr_lightning.skeleton import MANO_TO_JOINTS

Values: TypeAlias = Float[np.ndarray, "n"]
Summary: TypeAlias = Callable[[Values], float]
Joints: TypeAlias = Float[np.ndarray, "n 21 3"]
Vertices: TypeAlias = Float[np.ndarray, "n v 3"]
Scorer: TypeAlias = Callable[[Joints, Vertices], tuple[Joints, Vertices]]


@dataclass(frozen=True)
class Figure:
    """A number: a summary of all values of a measure that count."""

    label: str
    measure: str
    summary: Summary


@dataclass(frozen=True)
class Plot:
    """A PCK curve over thresholds from ``start`` to ``stop``."""

    title: str
    measures: Sequence[str]
    """The first that there is annotation for is drawn."""
    unit: str
    start: float
    stop: float
    steps: int

    def curve(self, values: Values) -> tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]:
        """Return the thresholds and the share of values within each."""
        return _pck(values, self.start, self.stop, self.steps)


@dataclass(frozen=True)
class Protocol:
    """What is reported."""

    name: str
    figures: Mapping[str, Figure]
    plots: Mapping[str, Plot]
    to_scorer: Scorer | None = None
    """Makes, of joints and vertices in the camera's frame, what the official scorer takes; None without a scorer."""

    def ranking(self) -> list[str]:
        """Return the measures to rank samples by, of which the first that is known does: distances, less is better."""
        return [measure for plot in self.plots.values() for measure in plot.measures]

    def measures(self) -> list[str]:
        """Return the names of all measures that it takes."""
        return list(dict.fromkeys([*(figure.measure for figure in self.figures.values()), *self.ranking()]))


def _pck(values: Values, start: float, stop: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    errors, thresholds = torch.from_numpy(values), torch.linspace(start, stop, steps)
    curve = pck_curve(errors, torch.ones_like(errors, dtype=torch.bool), thresholds)
    return thresholds.numpy(), curve.numpy()


def _auc(values: Values, start: float, stop: float, steps: int) -> float:
    thresholds, curve = _pck(values, start, stop, steps)
    return area_under_curve(torch.from_numpy(curve), torch.from_numpy(thresholds)).item()


def _to_freihand(joints: Joints, vertices: Vertices) -> tuple[Joints, Vertices]:
    return joints, vertices


def _to_ho3d(joints: Joints, vertices: Vertices) -> tuple[Joints, Vertices]:
    opengl = np.array([1, -1, -1], joints.dtype)
    in_order = np.empty_like(joints)
    in_order[:, list(MANO_TO_JOINTS)] = joints
    return opengl * in_order, opengl * vertices


def _mean(values: Values) -> float:
    return float(values.mean(dtype=np.float64))


def _median(values: Values) -> float:
    return float(np.median(values))


_AUC_20_50: Final = partial(_auc, start=20.0, stop=50.0, steps=20)
_AUC_0_50: Final = partial(_auc, start=0.0, stop=50.0, steps=100)
_AUC_0_30_PX: Final = partial(_auc, start=0.0, stop=30.0, steps=31)

_PAPER: Final = Protocol(
    "paper",
    {
        "auc_3d": Figure("3D PCK AUC, 20-50 mm, root", "joints_root_mm", _AUC_20_50),
        "joint_error_mm": Figure("mean joint error (mm), root", "joints_root_mm", _mean),
        "median_joint_error_mm": Figure("median joint error (mm), root", "joints_root_mm", _median),
        "auc_3d_scaled": Figure("3D PCK AUC, 20-50 mm, root and scale of bone 0-9", "joints_root_scale_mm", _AUC_20_50),
        "auc_3d_tips": Figure("3D PCK AUC of tips, 20-50 mm, centroid and scale", "tips_centroid_scale_mm", _AUC_20_50),
        "tip_error_mm": Figure("mean tip error (mm), centroid and scale", "tips_centroid_scale_mm", _mean),
        "pa_joint_error_mm": Figure("PA-MPJPE (mm)", "joints_procrustes_mm", _mean),
        "auc_2d": Figure("2D PCK AUC, 0-30 px", "joints_px", _AUC_0_30_PX),
        "joint_error_px": Figure("mean 2D joint error (px)", "joints_px", _mean),
        "joint_error_crop": Figure("mean 2D joint error (crop units)", "joints_crop", _mean),
        "miou": Figure("mIoU of the hand's mask", "iou", _mean),
        "miou_two_classes": Figure("mIoU of hand and background", "iou_two_classes", _mean),
        "camera_scale_error": Figure("camera: relative scale error", "camera_scale", _mean),
        "camera_error_mm": Figure("camera: translation error (mm)", "camera_mm", _mean),
    },
    {
        "pck_3d": Plot("3D PCK", ("joints_root_mm", "tips_centroid_scale_mm"), "mm", 20.0, 50.0, 20),
        "pck_2d": Plot("2D PCK", ("joints_px",), "px", 0.0, 30.0, 31),
    },
)
"""HAMR's own: Figures 6 to 8 by ``auc_3d`` and ``pck_3d`` (of Dexter+Object by the tips), Figure 7 by ``auc_2d`` and
``pck_2d``, Table 1 by ``miou``."""

_MESH: Final = {
    "pa_mpjpe_mm": Figure("PA-MPJPE (mm)", "joints_procrustes_mm", _mean),
    "pa_auc": Figure("PA joints AUC, 0-50 mm", "joints_procrustes_mm", _AUC_0_50),
    "pa_mpvpe_mm": Figure("PA-MPVPE (mm)", "vertices_procrustes_mm", _mean),
    "pa_vertex_auc": Figure("PA vertices AUC, 0-50 mm", "vertices_procrustes_mm", _AUC_0_50),
    "pa_f_5mm": Figure("PA F-score at 5 mm", "f_5mm_procrustes", _mean),
    "pa_f_15mm": Figure("PA F-score at 15 mm", "f_15mm_procrustes", _mean),
    "mpjpe_mm": Figure("MPJPE (mm), root", "joints_root_mm", _mean),
    "mpvpe_mm": Figure("MPVPE (mm), root", "vertices_root_mm", _mean),
    "f_5mm": Figure("F-score at 5 mm, root", "f_5mm_root", _mean),
    "f_15mm": Figure("F-score at 15 mm, root", "f_15mm_root", _mean),
}

_PROCRUSTES_PLOT: Final = {"pck_3d": Plot("3D PCK, Procrustes", ("joints_procrustes_mm",), "mm", 0.0, 50.0, 100)}

_FREIHAND: Final = Protocol("freihand", _MESH, _PROCRUSTES_PLOT, _to_freihand)
"""FreiHAND's scorer (github.com/lmb-freiburg/freihand, eval.py)."""

_HO3D: Final = Protocol(
    "ho3d",
    {
        **_MESH,
        "scaled_mpjpe_mm": Figure("MPJPE (mm), root and scale of bone 0-9", "joints_root_scale_mm", _mean),
        "scaled_auc": Figure("joints AUC, 0-50 mm, root and scale of bone 0-9", "joints_root_scale_mm", _AUC_0_50),
    },
    _PROCRUSTES_PLOT,
    _to_ho3d,
)
"""HO-3D's scorer (github.com/shreyashampali/ho3d, eval.py), which wants OpenGL's axes and MANO's order of joints."""

PROTOCOLS: Final[Mapping[str, Protocol]] = {protocol.name: protocol for protocol in (_PAPER, _FREIHAND, _HO3D)}

PLOTS: Final = tuple(dict.fromkeys(name for protocol in PROTOCOLS.values() for name in protocol.plots))
"""The names of all protocols' plots."""
