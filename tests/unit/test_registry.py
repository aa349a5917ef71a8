"""Components found by file, by decorator and by entry point."""

import subprocess
import sys
import textwrap

import pytest
import torch

from hamr_lightning import registry
from hamr_lightning.losses.base import Loss
from hamr_lightning.registry import UnknownComponentError, available, build, find, register


@pytest.fixture(autouse=True)
def _leave_the_registry_as_it_was(monkeypatch):
    for kind in registry.ROLE_MODULES:
        available(kind)
    for table in ("_registered", "_broken"):
        monkeypatch.setattr(registry, table, {kind: dict(found) for kind, found in getattr(registry, table).items()})


def test_built_in_components_are_found():
    assert {"cam", "geo", "heatmap", "joints_2d", "joints_3d", "seg"} <= set(available("loss"))
    assert {"contour"} <= set(available("renderer"))
    assert {"joints", "mano", "manopth"} <= set(available("decoder"))
    assert {"rhd", "synthetic"} <= set(available("dataset"))
    assert "hourglass" in available("backbone")
    assert "iterative" in available("regressor")


def test_a_component_is_built_from_its_name():
    loss = build("loss", "geo", weight=2.0)
    assert isinstance(loss, Loss)
    assert loss.weight == 2.0


def test_ones_own_component_is_registered_and_may_be_defined_again():
    for _ in range(2):  # as when a notebook's cell is run twice

        @register("loss", "own")
        class Own(Loss):
            def per_sample(self, prediction, batch):
                return torch.zeros(len(batch))

    assert find("loss", "own") is Own
    assert "own" in available("loss")


def test_a_name_is_taken_once():
    class Other(Loss):
        def per_sample(self, prediction, batch):
            return torch.zeros(len(batch))

    with pytest.raises(ValueError, match=r"a loss named 'geo' is registered already \(hamr_lightning\.losses\.geo"):
        register("loss", "geo")(Other)


def test_a_component_must_play_its_role():
    class NoLoss(torch.nn.Module):
        pass

    with pytest.raises(ValueError, match=r"'odd' must be a subclass of hamr_lightning\.losses\.base\.Loss"):
        register("loss", "odd")(NoLoss)


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(UnknownComponentError, match=r"no loss is named 'goe'; did you mean 'geo'\? Known: cam, geo"):
        find("loss", "goe")
    with pytest.raises(UnknownComponentError, match=r"no kind of component is named 'los'; did you mean 'loss'\?"):
        available("los")
    with pytest.raises(UnknownComponentError, match="no kind"):
        register("los", "x")


def write_package(folder, entry_points):
    (folder / "third_party.py").write_text(
        textwrap.dedent("""
            import torch
            from hamr_lightning.losses.base import Loss

            class Third(Loss):
                def per_sample(self, prediction, batch):
                    return torch.zeros(len(batch))

            class NotALoss:
                pass
            """)
    )
    (folder / "third_party_broken.py").write_text("raise RuntimeError('its library is too old')")
    info = folder / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hamr_lightning.losses]\n" + "\n".join(entry_points))


def rediscover_losses(monkeypatch, folder):
    monkeypatch.syspath_prepend(folder)
    registry._discovered.discard("loss")


def test_third_parties_are_found_and_break_only_themselves(monkeypatch, tmp_path):
    write_package(
        tmp_path, ["third = third_party:Third", "broken = third_party_broken:Loss", "wrong = third_party:NotALoss"]
    )
    rediscover_losses(monkeypatch, tmp_path)
    assert "third" in available("loss")
    assert "broken" not in available("loss")
    assert build("loss", "third").weight == 1.0
    with pytest.raises(UnknownComponentError, match=r"'broken' cannot be used.*RuntimeError: its library is too old"):
        find("loss", "broken")
    with pytest.raises(UnknownComponentError, match=r"'wrong' cannot be used.*must be a subclass"):
        find("loss", "wrong")


def test_third_parties_do_not_replace_a_built_in(monkeypatch, tmp_path):
    write_package(tmp_path, ["geo = third_party:Third"])
    rediscover_losses(monkeypatch, tmp_path)
    with pytest.warns(UserWarning, match="the loss of third_party:Third is left out: a loss named 'geo' is registered"):
        available("loss")
    assert find("loss", "geo").__module__ == "hamr_lightning.losses.geo"


def test_a_built_in_that_does_not_import_breaks_only_itself():
    code = """
        import sys
        sys.modules["hamr_lightning.losses.geo"] = None
        from hamr_lightning.registry import UnknownComponentError, available, find
        assert "geo" not in available("loss") and "cam" in available("loss")
        try:
            find("loss", "geo")
        except UnknownComponentError as error:
            assert "cannot be used, its module does not import: ModuleNotFoundError" in str(error), error
        else:
            raise AssertionError
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
