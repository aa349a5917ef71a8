"""The files of an evaluation, and published curves."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from evaluated_hands import batches_of, both_sides, oracle
from hamr_lightning.evaluation import PROTOCOLS, evaluate
from hamr_lightning.evaluation.report import THIS, CurvesError, curves_of, read_curves, read_figures, write_report
from hamr_lightning.hand_model import HandModel
from hamr_lightning.renderers.contour import ContourRenderer

HEADER = "method,threshold,pck\n"


@pytest.fixture(scope="module")
def faces():
    return torch.from_numpy(HandModel.load("open").faces)


@pytest.fixture(scope="module")
def evaluated(faces):
    """Evaluations of hands, one of them without 3D and one partly seen, of which the predictions are 30 % too large."""
    hands = both_sides(2)
    hands[2] = replace(hands[2], joints_2d_valid=np.arange(21) > 4)
    hands[1] = replace(hands[1], joints_3d=None, vertices=None)
    truth = oracle(both_sides(2), ContourRenderer(faces, 64))

    def predict(batch):
        predicted = truth(batch)
        larger = {name: 1.3 * getattr(predicted, name) for name in ("joints_3d", "joints_2d", "vertices")}
        return replace(predicted, **larger)

    return {name: evaluate(predict, batches_of(hands), protocol) for name, protocol in PROTOCOLS.items()}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_holds_the_figures_and_every_sample(tmp_path, evaluated, faces):
    evaluation = replace(evaluated["paper"], skipped=["a.png is broken"])
    write_report(evaluation, tmp_path / "deep" / "rhd", faces)

    folder = tmp_path / "deep" / "rhd"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    pictures = {f"figures/{name}.png" for name in ("pck_3d", "pck_2d", "worst", "best")}
    assert names == {"metrics.json", "samples.csv", "curves.csv", *pictures}
    metrics = json.loads((folder / "metrics.json").read_text())
    expected = {"protocol": "paper", "samples": 4, "skipped": ["a.png is broken"]}
    assert metrics == expected | evaluation.figures()
    assert read_figures(folder) == evaluation.figures()

    rows = table(folder / "samples.csv")
    assert [row["source"] for row in rows] == ["0", "1", "2", "3"]
    assert [*rows[0]] == ["source", *evaluation.values]
    assert rows[1]["joints_root_mm"] == rows[1]["camera_mm"] == ""
    for number, row in enumerate(rows):
        for measure, values in evaluation.values.items():
            counted = values[number][evaluation.counts[measure][number]]
            found, expected = float(row[measure] or "nan"), counted.mean() if len(counted) else np.nan
            assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_the_sheets_show_a_row_for_each_sample(tmp_path, evaluated, faces):
    write_report(evaluated["paper"], tmp_path, faces)
    sheet = cv2.imread(str(tmp_path / "figures" / "worst.png"))
    assert sheet.shape[:2] == (3 * (28 + 28 + 256), 4 * 256)


@pytest.mark.parametrize("name", ["freihand", "ho3d"])
def test_the_scorers_file_is_plain_json(tmp_path, evaluated, name, faces):
    write_report(evaluated[name], tmp_path, faces)
    predicted = json.loads((tmp_path / "pred.json").read_text())
    for written, points in zip(predicted, evaluated[name].predicted, strict=True):
        np.testing.assert_allclose(written, points, atol=6e-8)


def test_a_model_without_mesh_has_a_file_for_the_scorer_too(tmp_path, evaluated):
    joints, vertices = evaluated["freihand"].predicted
    write_report(replace(evaluated["freihand"], predicted=(joints, vertices[:, :0])), tmp_path, None)
    assert json.loads((tmp_path / "pred.json").read_text())[1] == [[], [], [], []]


def test_what_an_earlier_evaluation_left_goes_and_other_files_stay(tmp_path, evaluated, faces, monkeypatch):
    write_report(evaluated["freihand"], tmp_path, faces)
    (tmp_path / "figures" / "mine.png").write_text("a drawing")
    nothing = replace(evaluated["paper"], values={}, counts={}, worst=[], best=[])
    write_report(nothing, tmp_path, faces)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"metrics.json", "samples.csv", "curves.csv", "figures/mine.png"}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("hamr_lightning.evaluation.report.plot_pck", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(evaluated["paper"], tmp_path, faces)
    assert not (tmp_path / "metrics.json").exists()  # it would say that the others are there


def test_curves_read_back(tmp_path, evaluated, faces):
    write_report(evaluated["paper"], tmp_path, faces)
    curves = read_curves(tmp_path / "curves.csv")

    assert [*curves] == [""]
    drawn = evaluated["paper"].curves()
    assert [*curves[""]] == [*drawn] == ["pck_3d", "pck_2d"]
    for name, (_, curve) in drawn.items():
        assert [*curves[""][name]] == [THIS]
        np.testing.assert_allclose(curves[""][name][THIS], curve, rtol=1e-5)
    assert drawn["pck_3d"][1][0][[0, -1]].tolist() == [20, 50]
    assert 0 < drawn["pck_3d"][1][1][0] < drawn["pck_3d"][1][1][-1]


def test_published_curves_may_be_of_one_set_and_in_any_order(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(
        "\ufeffset,plot,method,threshold,pck\nrhd,,Z&B,50,0.8\nrhd,,Z&B,20,0.4\n,pck_2d,all,0,0\n,pck_2d,all,30,1\n"
        "stb,pck_3d,Z&B,20,0.9\nstb,pck_3d,Z&B,50,1\n",
        encoding="utf-8",
    )
    curves = read_curves(path)

    rhd = curves_of(curves, "rhd")
    assert [*rhd] == ["pck_2d", "pck_3d"]
    assert [axis.tolist() for axis in rhd["pck_3d"]["Z&B"]] == [[20, 50], [0.4, 0.8]]
    assert curves_of(curves, "stb")["pck_3d"]["Z&B"][1].tolist() == [0.9, 1]
    assert [*curves_of(curves, "dexter_object")] == ["pck_2d"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no such file of curves"),
        (b"", r"has no column method, threshold, pck"),
        (b"\x89PNG\r\n\x00\x1a\n\xff\xd8", r"has no column method, threshold, pck"),
        (b"method,pck\n", r"has no column threshold; it needs method, threshold, pck"),
        (HEADER + "a,20,0.5\na,30,fifty\n", r":3: threshold must be a number and pck one in \[0, 1\], got '30' and 'f"),
        (HEADER + "a,20,50\n", r":2: threshold must be a number and pck one in \[0, 1\], got '20' and '50'"),
        (HEADER + "a,nan,0.5\n", r":2: threshold must be a number"),
        (HEADER + "a,20\n", r":2: threshold must be a number and pck one in \[0, 1\], got '20' and None"),
        (HEADER + ",20,0.5\n", r":2: method is empty"),
        (HEADER + "a,20,0.5\na,20,0.6\n", r":3: 'a' has a second value at 20"),
        (HEADER + "a,20,0.5\n", r"the curve of 'a' has a single point"),
        (HEADER + 'a,"20"x,0.5\n', r":2: is no CSV"),
        ("plot,method,threshold,pck\npck3d,a,20,0.5\n", r":2: plot must be one of pck_3d, pck_2d, got 'pck3d'"),
    ],
)
def test_a_mistake_in_published_curves_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "published.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CurvesError, match=rf"published\.csv.*{message}"):
        read_curves(path)
