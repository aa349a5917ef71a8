"""Checkpoints: what they hold, what is refused, and that no code in them runs."""

import pickle
from pathlib import Path

import pytest
import torch

from hamr_lightning import RecipeError, load_checkpoint, load_recipe
from hamr_lightning.checkpoint import CheckpointError
from hamr_lightning.hand_model import HandModel
from small_recipe import SMALL_RECIPE


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a model and a checkpoint of it as Lightning writes it, with no recipe beside it."""
    folder = tmp_path_factory.mktemp("saved")
    recipe_file = folder / "small.yaml"
    recipe_file.write_text(SMALL_RECIPE)
    recipe = load_recipe(recipe_file)
    model = recipe.build_model()
    trainer = recipe.build_trainer(folder / "run")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "model.ckpt", weights_only=False)
    recipe_file.unlink()
    return model, folder / "model.ckpt"


def changed(saved, path, change):
    state = torch.load(saved[1], weights_only=True)
    change(state)
    torch.save(state, path)
    return path


def test_the_model_comes_back_in_evaluation_mode(saved):
    model, path = saved
    loaded = load_checkpoint(path)
    assert not loaded.training
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, out = model.eval()(images), loaded(images)
    assert torch.equal(out.vertices, expected.vertices)
    assert torch.equal(out.silhouette, expected.silhouette)
    assert loaded.hparams["recipe"] == model.hparams["recipe"]
    assert loaded.hparams["hand"] == HandModel.load("open").fingerprint


def test_loading_reads_plain_data_only(saved, monkeypatch):
    asked = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k.get("weights_only")) or load(*a, **k))
    load_checkpoint(saved[1])
    assert asked == [True]


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_checkpoint_does_not_run(saved, tmp_path):
    marker = tmp_path / "ran"
    hidden = changed(saved, tmp_path / "hidden.ckpt", lambda state: state.update(extra=Trap(marker)))
    plain = tmp_path / "plain.ckpt"
    plain.write_bytes(pickle.dumps(Trap(marker)))
    for path in (hidden, plain):
        with pytest.raises(CheckpointError, match=rf"{path.name}: not a checkpoint, broken, or refused"):
            load_checkpoint(path)
    assert not marker.exists()
    pickle.loads(plain.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02}.", b"\x80\x05\x95\xff\xff\xff\xff"])
def test_junk_is_refused(tmp_path, content):
    path = tmp_path / "junk.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"junk\.ckpt: (not a checkpoint|holds no recipe)"):
        load_checkpoint(path)


def test_half_a_file_is_refused(saved, tmp_path):
    path = tmp_path / "half.ckpt"
    content = saved[1].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"half\.ckpt: not a checkpoint"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "gone.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint file"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("hyper_parameters"),
        lambda state: state["hyper_parameters"].pop("recipe"),
        lambda state: state.pop("state_dict"),
    ],
)
def test_others_checkpoints_are_refused(saved, tmp_path, change):
    with pytest.raises(CheckpointError, match=r"holds no recipe and weights; is it a checkpoint of hamr-fit\?"):
        load_checkpoint(changed(saved, tmp_path / "other.ckpt", change))


def test_weights_that_do_not_fit_are_refused(saved):
    with pytest.raises(CheckpointError, match=r"its weights do not fit the recipe's model: .*size mismatch"):
        load_checkpoint(saved[1], ["regressor.hidden=9"])


def test_a_broken_recipe_in_it_is_refused(saved, tmp_path):
    path = changed(saved, tmp_path / "odd.ckpt", lambda state: state["hyper_parameters"]["recipe"].update(backbone=3))
    with pytest.raises(RecipeError, match=r"odd\.ckpt: backbone: must be a mapping"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("tree", "message"), [([1], "its recipe is no mapping"), ({"seed": torch.zeros(1)}, "its recipe is not plain data")]
)
def test_a_recipe_of_other_than_plain_data_is_refused(saved, tmp_path, tree, message):
    path = changed(saved, tmp_path / "odd.ckpt", lambda state: state["hyper_parameters"].update(recipe=tree))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_another_hand_is_refused(saved, tmp_path):
    path = changed(saved, tmp_path / "hand.ckpt", lambda state: state["hyper_parameters"].update(hand="1234"))
    with pytest.raises(CheckpointError, match=r"trained with the hand model 1234, but decoder\.hand is \w+"):
        load_checkpoint(path)


def test_overrides_say_where_the_hand_model_lies(saved):
    with pytest.raises(RecipeError, match=r"override 'decoder.hand=gone.pkl': decoder: gone\.pkl"):
        load_checkpoint(saved[1], ["decoder.hand=gone.pkl"])
