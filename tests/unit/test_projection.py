import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from hamr_lightning.projection import fit_camera, project
from hamr_lightning.skeleton import BONES


@pytest.fixture
def joints_3d() -> Float[Tensor, "4 21 3"]:
    return torch.randn(4, 21, 3, generator=torch.Generator().manual_seed(0)) * 0.05


@pytest.fixture
def joints_2d() -> Float[Tensor, "4 21 2"]:
    return torch.randn(4, 21, 2, generator=torch.Generator().manual_seed(1)) * 0.3


def fit_one(joints_3d: np.ndarray, joints_2d: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The paper's words, one sample at a time."""
    bones = [(a, b) for a, b in BONES if valid[a] and valid[b]]
    mean_2d = np.mean([np.linalg.norm(joints_2d[a] - joints_2d[b]) for a, b in bones])
    mean_3d = np.mean([np.linalg.norm(joints_3d[a, :2] - joints_3d[b, :2]) for a, b in bones])
    scale = mean_2d / mean_3d
    offset = np.mean([joints_2d[k] / scale - joints_3d[k, :2] for k in range(21) if valid[k]], axis=0)
    return np.array([scale, *offset])


def test_project_is_equation_5() -> None:
    points = torch.tensor([[[1.0, 2.0, 9.0], [0.0, -1.0, 5.0]]])
    camera = torch.tensor([[2.0, 0.5, -0.5]])
    assert project(points, camera).tolist() == [[[3.0, 3.0], [1.0, -3.0]]]


def test_fit_camera_without_noise_is_exact(joints_3d: Tensor) -> None:
    camera = torch.tensor([[5.0, 0.1, -0.02], [0.5, 0.0, 0.0], [20.0, -0.3, 0.2], [8.0, 0.0, 0.01]])
    torch.testing.assert_close(fit_camera(joints_3d, project(joints_3d, camera)), camera, rtol=1e-5, atol=1e-6)


def test_fit_camera_follows_the_paper_on_noisy_data(joints_3d: Tensor, joints_2d: Tensor) -> None:
    valid = torch.rand(4, 21, generator=torch.Generator().manual_seed(2)) < 0.7
    expected = np.stack(
        [fit_one(*(x.numpy() for x in sample)) for sample in zip(joints_3d, joints_2d, valid, strict=True)]
    )
    fitted = fit_camera(joints_3d.double(), joints_2d.double(), valid)
    np.testing.assert_allclose(fitted.numpy(), expected, rtol=1e-5)


def test_fit_camera_never_reads_what_is_not_valid(joints_3d: Tensor, joints_2d: Tensor) -> None:
    valid = torch.ones(4, 21, dtype=torch.bool)
    valid[:, [4, 8, 9]] = False
    fitted = fit_camera(joints_3d, joints_2d, valid)
    spoiled_3d = torch.where(valid[..., None], joints_3d, torch.nan)
    spoiled_2d = torch.where(valid[..., None], joints_2d, torch.inf)
    assert fitted.isfinite().all()
    assert torch.equal(fit_camera(spoiled_3d, spoiled_2d, valid), fitted)


def test_fit_camera_is_nan_where_nothing_determines_it(joints_3d: Tensor, joints_2d: Tensor) -> None:
    valid = torch.ones(4, 21, dtype=torch.bool)
    valid[0] = False
    valid[1] = torch.arange(21) % 4 == 0
    joints_2d[2] = 0.3
    joints_3d[3, :, :2] = 0.01
    valid[1, 0] = False
    assert fit_camera(joints_3d, joints_2d, valid).isnan().all()
    assert fit_camera(joints_3d, joints_2d, valid | True)[:2].isfinite().all()


def test_half_precision_is_computed_in_float32(joints_3d: Tensor, joints_2d: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        fitted = fit_camera(joints_3d.bfloat16(), joints_2d.bfloat16())
        projected = project(joints_3d.bfloat16(), fitted.bfloat16())
    assert fitted.dtype == projected.dtype == torch.float32
    assert torch.equal(fitted, fit_camera(joints_3d.bfloat16().float(), joints_2d.bfloat16().float()))


def test_projection_compiles_without_a_graph_break(
    joints_3d: Tensor, joints_2d: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test suite's checks of shapes are no part of what users compile.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def round_trip(joints_3d: Tensor, joints_2d: Tensor) -> Tensor:
        return project(joints_3d, fit_camera(joints_3d, joints_2d))

    compiled = torch.compile(round_trip, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(joints_3d, joints_2d), round_trip(joints_3d, joints_2d))
