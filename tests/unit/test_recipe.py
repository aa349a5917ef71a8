"""Recipes: merging, overrides, the check, and what is built."""

import re
from dataclasses import replace
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path

import pytest
import torch

from hamr_lightning import Recipe, RecipeError, load_recipe
from hamr_lightning.arguments import parameters
from hamr_lightning.hand_model import HandModel
from hamr_lightning.recipe import override
from hamr_lightning.recipe_check import shared_keys
from hamr_lightning.recipe_source import shipped_recipes
from hamr_lightning.registry import available, find
from hamr_lightning.strict_yaml import parse
from small_recipe import SMALL_RECIPE


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def small(write):
    return write(SMALL_RECIPE, "small.yaml")


def problems(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [line.replace(f"{Path(path).parent}/", "") for line in caught.value.problems]


def section(recipe, key):
    return recipe.to_dict()[key]


# Where a recipe comes from


@pytest.mark.parametrize("name", ["full", "quickstart", "ablations/no_geo", "no_geo"])
def test_shipped_recipes_load_by_name(name):
    assert load_recipe(name).name == Path(name).name


def test_a_path_goes_before_a_shipped_name(write, monkeypatch, tmp_path):
    write(SMALL_RECIPE.replace("name: small", "name: mine"), "full")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("full").name == "mine"


def test_a_recipe_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(
        RecipeError, match=r"^ful: no such file, and no recipe of that name ships; did you mean 'full'\?"
    ):
        load_recipe("ful")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "recipe.yaml: line 1: not valid YAML"),
        (b"", "recipe.yaml: a recipe is a mapping of sections, this is empty"),
        (b"- a", "recipe.yaml: a recipe is a mapping of sections, this is a list"),
        (b"\xff\xfe", "recipe.yaml: 'utf-8' codec can't decode"),
        (b"a: 1\na: 2", "recipe.yaml: line 2: the key 'a' is there twice"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    (line,) = problems(path)
    assert line.startswith(message)


# extends


def test_mappings_merge_and_the_name_is_the_stem(write, small):
    recipe = load_recipe(write("extends: small.yaml\nregressor: {iterations: 5}\n", "child.yaml"))
    assert recipe.name == "child"
    assert section(recipe, "regressor") == {**section(load_recipe(small), "regressor"), "iterations": 5}
    assert "extends" not in recipe.to_dict()


def test_extends_goes_through_folders_and_shipped_names(write, small):
    write("extends: ../small.yaml\nseed: 8\n", "sub/middle.yaml")
    assert load_recipe(write("extends: sub/middle.yaml\n")).seed == 8
    assert (
        section(load_recipe(write("extends: no_geo\n")), "losses").keys()
        == section(load_recipe("ablations/no_geo"), "losses").keys()
    )


def test_a_changed_name_replaces_the_section(write, small):
    recipe = load_recipe(write("extends: small.yaml\noptimizer: {name: SGD, lr: 0.1}\nscheduler: {name: ConstantLR}\n"))
    assert section(recipe, "optimizer") == {"name": "SGD", "lr": 0.1}
    assert section(recipe, "scheduler") == {"name": "ConstantLR"}


def test_the_same_name_does_not(write, small):
    recipe = load_recipe(write("extends: small.yaml\nscheduler: {name: ReduceLROnPlateau, patience: 2}\n"))
    assert section(recipe, "scheduler") == {"name": "ReduceLROnPlateau", "factor": 0.7, "patience": 2}


LISTED = "data.train=[{name: synthetic, count: 5}, {name: synthetic, count: 8, weight: 0.5}]"


def test_a_list_of_data_sets_replaces_a_single_one_and_back(small, tmp_path):
    listed = load_recipe(small, [LISTED])
    assert set(section(listed, "data")) == {"image_size", "batch_size", "train"}
    data = listed.build_datamodule()
    assert len(data.train_dataloader().dataset) == 5 + 4
    assert data.val_names == ("synthetic", "synthetic_2")
    again = override(listed, ["data.name=rhd", f"data.root={tmp_path}"])
    assert section(again, "data") == {"name": "rhd", "image_size": 64, "batch_size": 2, "root": str(tmp_path)}


def test_what_is_tested_is_not_validated(small):
    recipe = load_recipe(small, ["data.test=[{name: synthetic, val_count: 4}, {name: synthetic, val_count: 5}]"])
    sets = {name: len(loader.dataset) for name, loader in recipe.build_evaluation().val_dataloaders().items()}
    assert sets == {"synthetic": 4, "synthetic_2": 5}
    assert recipe.set_names("test") == ["synthetic", "synthetic_2"]
    assert len(recipe.build_datamodule().val_dataloader().dataset) == 3
    assert recipe.set_names("val") == recipe.set_names("train") == ["synthetic"]


def test_without_a_list_the_validation_sets_are_tested(small):
    data = load_recipe(small, [LISTED, "data.val=[{name: synthetic, val_count: 4}]"]).build_evaluation()
    assert {name: len(loader.dataset) for name, loader in data.val_dataloaders().items()} == {"synthetic": 4}


def test_rendered_data_has_the_decoder_s_finger_tips(small):
    tips = "decoder.fingertips=freihand"
    samples = [
        load_recipe(small, overrides).build_datamodule().val_dataloader().dataset[0].joints_3d
        for overrides in ([], [tips], ["decoder.fingertips=hamr"])
    ]
    assert torch.equal(samples[0], samples[2])
    assert not torch.equal(samples[0][:, 4], samples[1][:, 4])
    assert torch.equal(samples[0][:, :4], samples[1][:, :4])


def test_the_hand_that_data_is_given_is_known(small, tmp_path):
    with_rhd = ["data.name=rhd", f"data.root={tmp_path}"]
    joints = ["decoder={name: joints}", "renderer=null", "losses.seg=null"]
    hands = [load_recipe(small, overrides).data_hand for overrides in ([], joints, ["decoder.fingertips=ho3d"])]
    assert hands[0] == hands[1] == HandModel.load("open").fingerprint != hands[2]
    assert load_recipe(small, with_rhd).data_hand is None


def test_a_list_of_validation_sets_goes_beside_a_single_training_set(small):
    data = load_recipe(small, ["data.val=[{name: synthetic, val_count: 4}]"]).build_datamodule()
    assert len(data.train_dataloader().dataset) == 8
    assert len(data.val_dataloader().dataset) == 4


def test_a_changed_data_set_keeps_the_data_module(small, tmp_path):
    recipe = load_recipe(small, ["data.name=rhd", f"data.root={tmp_path}"])
    assert section(recipe, "data") == {"name": "rhd", "image_size": 64, "batch_size": 2, "root": str(tmp_path)}


def test_a_changed_optimizer_keeps_the_model_s_arguments(write, small):
    write("extends: small.yaml\noptimizer: {warmup_steps: 7, alpha: 0.5}\n", "warm.yaml")
    recipe = load_recipe(write("extends: warm.yaml\noptimizer: {name: SGD}\n"))
    assert section(recipe, "optimizer") == {"name": "SGD", "warmup_steps": 7}


def test_null_removes_a_loss_and_a_renderer(write, small):
    recipe = load_recipe(write("extends: small.yaml\nrenderer: null\nlosses: {seg: null}\n"))
    assert section(recipe, "losses") == {"joints_3d": {"weight": 10}}
    assert section(recipe, "renderer") is None
    assert recipe.build_model().renderer is None


def test_a_removed_loss_can_come_back(write, small):
    write("extends: small.yaml\nlosses: {seg: null}\n", "less.yaml")
    recipe = load_recipe(write("extends: less.yaml\nlosses: {seg: {weight: 3}}\n"))
    assert section(recipe, "losses")["seg"] == {"weight": 3}


def test_a_circle_is_refused(write):
    write("extends: b.yaml\n", "a.yaml")
    (line,) = problems(write("extends: a.yaml\n", "b.yaml"))
    assert re.search(r"extend each other in a circle: .*b\.yaml -> .*a\.yaml -> .*b\.yaml", line)


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("gone.yaml", "recipe.yaml:1: extends: gone.yaml: no such file, and no recipe of that name ships; known: "),
        (
            "quickstrat",
            "recipe.yaml:1: extends: quickstrat: no such file, and no recipe of that name ships; did you mean",
        ),
        ("3", "recipe.yaml:1: extends: must be a path or a shipped recipe's name, got 3"),
    ],
)
def test_a_base_that_is_not_there(write, extends, message):
    (line,) = problems(write(f"extends: {extends}\n"))
    assert line.startswith(message)


# Overrides


def test_overrides_reach_any_leaf_in_any_order(small):
    overrides = ["losses.joints_3d.weight=5", "losses.seg=null", "optimizer.name=SGD", "optimizer.lr=1e-05", "seed=9"]
    trees = [load_recipe(small, order).to_dict() for order in permutations(overrides)]
    assert all(tree == trees[0] for tree in trees)
    assert trees[0]["losses"] == {"joints_3d": {"weight": 5}}
    assert trees[0]["optimizer"] == {"name": "SGD", "lr": 1e-5}
    assert trees[0]["seed"] == 9


def test_an_override_can_be_a_mapping(small, tmp_path):
    overrides = [f"data={{name: rhd, root: {tmp_path}}}", "data.batch_size=3"]
    assert load_recipe(small, overrides).to_dict() == load_recipe(small, overrides[::-1]).to_dict()
    assert section(load_recipe(small, overrides), "data")["batch_size"] == 3


def test_a_path_keeps_what_yaml_takes_for_a_comment(small):
    recipe = load_recipe(small, ["data.name=rhd", "data.root=/photos #2"])
    assert section(recipe, "data")["root"] == "/photos #2"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1", "seed=2"], "override 'seed=2': contradicts another override, which sets seed to 1"),
        (["losses.seg=null", "losses.seg.weight=1"], "override 'losses.seg.weight=1': contradicts"),
        (["losses.seg.weight=1", "losses.seg=null"], "override 'losses.seg=null': contradicts"),
        (["seed=1", "seed=true"], "override 'seed=true': contradicts"),
        (["seed"], "override 'seed': must be key=value"),
        (["losses..weight=1"], "override 'losses..weight=1': must be key=value"),
        (["seed=[1"], "override 'seed=[1': line 1: not valid YAML"),
        (["extends=full"], "override 'extends=full': extends can only be set in a file"),
        (["losses.seg.wieght=1"], "override 'losses.seg.wieght=1': losses.seg.wieght: SegmentationLoss takes no such"),
        (["sede=1"], "override 'sede=1': sede: no such section; did you mean 'seed'?"),
        (["sede.x=1"], "override 'sede.x=1': sede: no such section; did you mean 'seed'?"),
    ],
)
def test_overrides_that_are_mistakes(small, overrides, message):
    (line,) = problems(small, *overrides)
    assert line.startswith(message)


def test_the_same_override_twice_is_no_contradiction(small):
    assert load_recipe(small, ["seed=1", "seed=1"]).seed == 1


# The check


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone=null", "override 'backbone=null': backbone: is missing"),
        ("backbone=hourglass", "override 'backbone=hourglass': backbone: must be a mapping {name: ..., its arguments}"),
        ("backbone.name=3", "override 'backbone.name=3': backbone.name: must name the backbone, got 3"),
        ("backbone.name=hourglas", "override 'backbone.name=hourglas': backbone.name: no backbone is named 'hourglas'; "
         "did you mean 'hourglass'?"),
        ("backbone.stacks=two", "override 'backbone.stacks=two': backbone.stacks: must be int, got 'two'"),
        ("regressor.feature_channels=3", "override 'regressor.feature_channels=3': regressor.feature_channels: is "
         "filled in by the library; remove it"),
        ("decoder.joint_source=chian", "override 'decoder.joint_source=chian': decoder.joint_source: must be 'mesh' or "
         "'chain', got 'chian'"),
        ("losses=3", "override 'losses=3': losses: must be a mapping from losses' names"),
        ("losses.goe.weight=1", "override 'losses.goe.weight=1': losses.goe: no loss is named 'goe'; did you mean"),
        ("losses.goe=null", "override 'losses.goe=null': losses.goe: no loss is named 'goe'"),
        ("losses.cam=0.1", "override 'losses.cam=0.1': losses.cam: must be a mapping of arguments"),
        ("renderer=null", "small.yaml:9: losses.seg: needs a silhouette, but renderer is null; give a renderer or set "
         "losses.seg to null"),
        ("renderer.size=48", "override 'renderer.size=48': renderer.size: must divide data.image_size, 64"),
        ("optimizer.name=RMSProp", "override 'optimizer.name=RMSProp': optimizer.name: no optimizer is named 'RMSProp' "
         "in torch.optim; did you mean 'RMSprop'?"),
        ("optimizer.name=Optimizer", "override 'optimizer.name=Optimizer': optimizer.name: no optimizer is named"),
        ("scheduler.name=os.system", "override 'scheduler.name=os.system': scheduler.name: no scheduler is named"),
        ("scheduler.mode=mni", "override 'scheduler.mode=mni': scheduler.mode: must be 'min' or 'max', got 'mni'"),
        ("data.batchsize=3", "override 'data.batchsize=3': data.batchsize: neither synthetic nor HandDataModule "
         "takes it; did you mean 'batch_size'?"),
        ("data.split=val", "override 'data.split=val': data.split: is filled in by the library; remove it"),
        ("data.name=rhd", "small.yaml:12: data.root: is missing; RhdDataset needs it, str or Path"),
        ("data.val=[]", "override 'data.val=[]': data.val: must be a list of data sets [{name: ..., "
         "its arguments}], got []"),
        ("data.val=[{nmae: rhd}]", "override 'data.val=[{nmae: rhd}]': data.val.0.name: must name the data set, got"),
        ("data.val=[{name: rdh}]", "override 'data.val=[{name: rdh}]': data.val.0.name: no dataset is named 'rdh'"),
        ("data.train=[{name: rhd}]", "override 'data.train=[{name: rhd}]': data.train.0.root: is missing; RhdDataset"),
        ("data.train=[{name: synthetic, weight: 0}]", "override 'data.train=[{name: synthetic, weight: 0}]': "
         "data.train.0.weight: must be a number above 0, got 0"),
        ("data.train=[{name: synthetic, batch_size: 3}]", "override 'data.train=[{name: synthetic, batch_size: 3}]': "
         "data.train.0.batch_size: SyntheticDataset takes no such argument"),
        ("data.augmentation.scale=1", "override 'data.augmentation.scale=1': data.augmentation.scale: must be"),
        ("data.augmentation.hue=7", "override 'data.augmentation.hue=7': data.augmentation: augmentation.hue must"),
        ("trainer=3", "override 'trainer=3': trainer: must be a mapping of pytorch_lightning.Trainer's arguments"),
        ("trainer.max_epoch=3", "override 'trainer.max_epoch=3': trainer.max_epoch: Trainer takes no such argument; "
         "did you mean 'max_epochs'?"),
        ("trainer.callbacks=[]", "override 'trainer.callbacks=[]': trainer.callbacks: is filled in by the library"),
        ("trainer.precision=bf16-true", "override 'trainer.precision=bf16-true': trainer.precision: must be 32-true or "
         "16-mixed or bf16-mixed, got 'bf16-true'"),
        ("trainer.precision=transformer-engine", "override 'trainer.precision=transformer-engine': trainer.precision: "
         "must be"),
        ("trainer.precision=64", "override 'trainer.precision=64': trainer.precision: must be"),
        ("trainer.precision=16", "override 'trainer.precision=16': trainer.precision: must be"),
        ("trainer.limit_val_batches=0", "override 'trainer.limit_val_batches=0': trainer.limit_val_batches: must not "
         "be 0, as the scheduler ReduceLROnPlateau needs val/loss"),
        ("trainer.limit_val_batches=0.0", "override 'trainer.limit_val_batches=0.0': trainer.limit_val_batches: must"),
        ("trainer.plugins=os.system", "override 'trainer.plugins=os.system': trainer.plugins: takes an object"),
        ("logger.name=wandd", "override 'logger.name=wandd': logger.name: no logger is named 'wandd'; did you"),
        ("name=a/b", "override 'name=a/b': name: must be a name of letters, digits"),
        ("name=..", "override 'name=..': name: must be a name of letters, digits"),
        ("seed=-1", "override 'seed=-1': seed: must be a whole number from 0 to"),
        ("seed=true", "override 'seed=true': seed: must be a whole number from 0 to"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_place_key_and_mend(small, override, message):
    (line,) = problems(small, override)
    assert line.startswith(message)


def test_all_mistakes_come_at_once_each_with_its_line(write, small):
    bad = write(
        "extends: small.yaml\n"
        "nmae: x\n"
        "backbone: {stacks: two, dpeth: 3}\n"
        "losses:\n"
        "  goe: {weight: 1}\n"
        "  seg: {weight: heavy}\n"
        "data: {batch_size: 1.5, augmentation: {sclae: [1, 1], rotation: x}}\n"
        "trainer: {max_epoch: 3}\n"
    )
    places = [re.match(r"(.+?): (\S+): ", line).groups() for line in problems(bad, "seed=x")]
    assert set(places) == {
        ("recipe.yaml:2", "nmae"),
        ("override 'seed=x'", "seed"),
        ("recipe.yaml:3", "backbone.stacks"),
        ("recipe.yaml:3", "backbone.dpeth"),
        ("recipe.yaml:5", "losses.goe"),
        ("recipe.yaml:6", "losses.seg.weight"),
        ("recipe.yaml:7", "data.batch_size"),
        ("recipe.yaml:7", "data.augmentation.sclae"),
        ("recipe.yaml:7", "data.augmentation.rotation"),
        ("recipe.yaml:8", "trainer.max_epoch"),
    }
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("child", "override", "message"),
    [
        ("renderer: null", "renderer.size=32", "child.yaml:2: renderer.name: must name the renderer, got None"),
        ("renderer: 3", "seed=1", "child.yaml:2: renderer: must be a mapping"),
        ("optimizer: {name: SGD}", "optimizer.lr=x", "override 'optimizer.lr=x': optimizer.lr: must be"),
        ("data: {name: rhd}", "data.batch_size=1", "child.yaml:2: data.root: is missing"),
        ("losses:\n  seg: null", "losses.seg.weight=x", "override 'losses.seg.weight=x': losses.seg.weight: must be"),
    ],
)
def test_no_place_is_named_whose_value_is_gone(write, small, child, override, message):
    (line,) = problems(write(f"extends: small.yaml\n{child}\n", "child.yaml"), override)
    assert line.startswith(message)


def test_what_a_base_s_replaced_section_held_has_no_place(write, small):
    write("extends: small.yaml\nrenderer: null\n", "child.yaml")
    recipe = load_recipe(write("extends: child.yaml\nlosses: {seg: null}\noptimizer: {name: SGD}\n"))
    assert not {("renderer", "size"), ("renderer", "name"), ("losses", "seg", "weight")} & recipe.source.origins.keys()


def test_losses_may_not_be_empty(small):
    (line,) = problems(small, "losses.seg=null", "losses.joints_3d=null")
    assert line.endswith("losses: must hold at least one loss")


# What is built


def test_parts_are_wired(small):
    model = load_recipe(small).build_model()
    assert model.regressor.iterations == 2
    assert model.decoder.pose_size == 9
    assert list(model.losses) == ["joints_3d", "seg"]
    assert model.losses["seg"].weight == 2
    out = model.eval()(torch.zeros(1, 3, 64, 64))
    assert out.parameters.hand_pose.shape == (1, 9)
    assert out.silhouette.shape == (1, 16, 16)


def test_optimizer_and_scheduler_take_their_values(small):
    model = load_recipe(small, ["optimizer.alpha=0.5"]).build_model()
    optimizer = model._make_optimizer(model.parameters())
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert (optimizer.defaults["lr"], optimizer.defaults["alpha"]) == (2e-4, 0.5)
    scheduler = model._make_scheduler(optimizer)
    assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert scheduler.factor == 0.7


def test_the_model_s_own_arguments_stand_with_the_optimizer(small):
    assert load_recipe(small, ["optimizer.warmup_steps=7"]).build_model()._warmup_steps == 7
    with pytest.raises(RecipeError, match=r"override 'optimizer.warmup_steps=-1': optimizer: HAMRModule: warmup_steps"):
        load_recipe(small, ["optimizer.warmup_steps=-1"]).build_model()
    (line,) = problems(small, "optimizer.warmup=7")
    assert "neither RMSprop nor HAMRModule takes it; did you mean 'warmup_steps'?" in line


def test_a_model_without_scheduler(small):
    assert load_recipe(small, ["scheduler=null"]).build_model()._make_scheduler is None


def test_the_model_knows_its_recipe_and_hand(small):
    recipe = load_recipe(small)
    model = recipe.build_model()
    assert model.hparams["recipe"] == recipe.to_dict()
    assert model.hparams["hand"] == model.decoder.hand.fingerprint


def test_what_constructors_refuse_comes_at_once_with_its_place(small):
    recipe = load_recipe(small, ["losses.seg.weight=-1", "losses.joints_3d.weight=.nan", "optimizer.lr=-3"])
    with pytest.raises(RecipeError) as caught:
        recipe.build_model()
    patterns = [
        r"small.yaml:8, override 'losses.joints_3d.weight=.nan': losses.joints_3d: \w+: weight must be finite",
        r"small.yaml:9, override 'losses.seg.weight=-1': losses.seg: \w+: weight must be finite",
        r"small.yaml:10, override 'optimizer.lr=-3': optimizer: Invalid learning rate: -3",
    ]
    for pattern, line in zip(patterns, caught.value.problems, strict=True):
        assert re.search(pattern, line)


def test_a_mesh_that_is_not_there_cannot_be_rendered(small):
    recipe = load_recipe(small, ["decoder.name=joints", "losses.seg=null"])
    with pytest.raises(
        RecipeError, match=r"renderer: the decoder 'joints' has no mesh to render; set renderer to null"
    ):
        recipe.build_model()


@pytest.mark.parametrize("precision", ["32", "'32'", "32-true", "16-mixed", "bf16-mixed", "null"])
def test_precisions_that_keep_the_mesh(small, precision):
    assert load_recipe(small, [f"trainer.precision={precision}"])


def test_a_left_hand_is_refused(small, tmp_path):
    replace(HandModel.load(), side="left").save(tmp_path / "left.npz")
    with pytest.raises(RecipeError, match=r"override 'decoder.hand=.*': decoder: the hand must be a right one"):
        load_recipe(small, [f"decoder.hand={tmp_path / 'left.npz'}"]).build_model()


def test_rendered_data_is_of_the_decoder_s_hand_unless_told_otherwise(small, tmp_path):
    hand = HandModel.load()
    replace(hand, vertices=hand.vertices * 1.5).save(tmp_path / "large.npz")
    large = f"decoder.hand={tmp_path / 'large.npz'}"
    recipes = [load_recipe(small, overrides) for overrides in ([large], [large, "data.hand=open"], [])]
    joints = [next(iter(recipe.build_datamodule().val_dataloader())).joints_3d for recipe in recipes]
    torch.testing.assert_close(joints[1], joints[2])
    spans = [j.flatten(1).norm(dim=1) for j in joints]
    torch.testing.assert_close(spans[0] / spans[1], torch.full((2,), 1.5), rtol=0.05, atol=0)
    assert load_recipe(small, ["decoder.name=joints", "renderer=null", "losses.seg=null"]).build_datamodule()


def test_missing_files_are_named(small, tmp_path):
    with pytest.raises(RecipeError, match=r"yaml:5, override 'decoder.hand=gone.pkl': decoder: gone\.pkl"):
        load_recipe(small, ["decoder.hand=gone.pkl"]).build_model()
    with pytest.raises(RecipeError, match=rf"data: .*{re.escape(str(tmp_path))}"):
        load_recipe(small, ["data.name=rhd", f"data.root={tmp_path}"]).build_datamodule()


def test_the_data_module_takes_seed_and_splits(small):
    first, other = (load_recipe(small, [f"seed={seed}"]).build_datamodule() for seed in (3, 4))
    again = load_recipe(small).build_datamodule()
    images = [next(iter(module.val_dataloader())).image for module in (first, again, other)]
    assert images[0].shape == (2, 3, 64, 64)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert len(first.train_dataloader()) == 4


def test_the_trainer_takes_its_values_and_writes_nothing_yet(small, tmp_path):
    folder = tmp_path / "run"
    trainer = load_recipe(small, ["trainer.max_epochs=7"]).build_trainer(folder)
    assert trainer.max_epochs == 7
    assert trainer.default_root_dir == str(folder)
    assert not folder.exists()


def test_a_trainer_that_refuses_its_values(small):
    with pytest.raises(RecipeError, match=r"yaml:13, override 'trainer.accelerator=tpv': trainer: .*tpv"):
        load_recipe(small, ["trainer.accelerator=tpv"]).build_trainer()


def test_a_logger_beside_the_metrics_file(small, tmp_path):
    pytest.importorskip("tensorboard")
    trainer = load_recipe(small, ["logger.name=tensorboard"]).build_trainer(tmp_path)
    assert [type(logger).__name__ for logger in trainer.loggers] == ["MetricsFile", "TensorBoardLogger"]
    assert [
        type(logger).__name__ for logger in load_recipe(small, ["logger=null"]).build_trainer(tmp_path).loggers
    ] == ["MetricsFile"]


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_that_is_not_installed(small, tmp_path):
    with pytest.raises(RecipeError, match=r"override 'logger.name=wandb': logger: .*wandb"):
        load_recipe(small, ["logger.name=wandb"]).build_trainer(tmp_path)


# A recipe as a value


def test_the_resolved_recipe_reads_back(write):
    for name in shipped_recipes():
        recipe = load_recipe(name)
        again = load_recipe(write(recipe.to_yaml()))
        assert again.to_dict() == recipe.to_dict()
        assert parse(recipe.to_yaml())[0] == recipe.to_dict()


def test_a_recipe_does_not_change(small):
    recipe = load_recipe(small)
    tree = recipe.to_dict()
    tree["losses"]["seg"]["weight"] = 100
    copy = Recipe(tree)
    tree["seed"] = 5
    assert recipe.to_dict()["losses"]["seg"]["weight"] == 2
    assert copy.seed == 3
    with pytest.raises(AttributeError):
        recipe.seed = 4


@pytest.mark.parametrize("name", available("dataset"))
def test_no_data_set_takes_an_argument_that_goes_to_the_data_module(name):
    assert not (parameters(find("dataset", name)).keys() & shared_keys("data"))
