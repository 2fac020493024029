"""Recipes as sets of settings that flags override."""

import dataclasses

import pytest

from fer_pipeline import config, recipes, stages
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError
from fer_pipeline.models import networks


def test_every_recipe_decides_the_same_settings():
    assert tuple(recipes.RECIPES) == config.settings()["recipe"].choices
    assert set(config.settings()["model"].choices) == set(networks.NAMES)
    for values in recipes.RECIPES.values():
        assert set(values) == set(recipes.RECIPES["notebook"])


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_what_is_not_chosen_is_the_recipes(recipe):
    resolved = recipes.resolve(Config(recipe=recipe, augment="none", dropout=0.0))
    expected = recipes.RECIPES[recipe] | {"augment": "none", "dropout": 0.0}
    assert {name: getattr(resolved, name) for name in expected} == expected
    assert recipes.resolve(resolved) == resolved


def test_without_a_recipe_it_is_the_notebooks():
    resolved = recipes.resolve(Config())
    assert (resolved.batch_size, resolved.learning_rate, resolved.optimizer) == (64, 5e-4, "adam")


@pytest.mark.parametrize(
    ("recipe", "optimizer", "rate"),
    [
        ("notebook", None, 5e-4),
        ("notebook", "adamw", 5e-4),
        ("notebook", "muon", 0.012),
        ("tuned", None, 0.012),
        ("tuned", "muon", 0.012),
        # The rate at which the tuned recipe's own AdamW goes.
        ("tuned", "adam", 0.012 / 6),
        ("tuned", "adamw", 0.012 / 6),
    ],
)
def test_the_rate_fits_the_optimizer(recipe, optimizer, rate):
    resolved = recipes.resolve(Config(recipe=recipe, optimizer=optimizer))
    assert resolved.learning_rate == pytest.approx(rate)
    assert recipes.resolve(resolved) == resolved
    # What is chosen stays.
    chosen = Config(recipe=recipe, optimizer=optimizer, learning_rate=0.03)
    assert recipes.resolve(chosen).learning_rate == 0.03


#: What teachers say is all of the loss.
TAUGHT = {"teacher": "pretrained", "distill": 1.0}


@pytest.mark.parametrize(
    ("unread", "said", "read"),
    [
        ({"distill": 0.4}, "without --teacher; add", {"teacher": "pretrained"}),
        ({"temperature": 3.0}, "without --teacher; add", {"teacher": "pretrained"}),
        ({"teacher": "pretrained", "distill": 0.0}, "with --distill=0; change", {"distill": 0.1}),
        ({"warmup": 0.1}, "with --schedule=plateau; change", {"schedule": "linear"}),
        ({"warmup": 0.1}, "with --schedule=plateau; change", {"recipe": "tuned"}),
        ({"weight_decay": 0.01}, "with --optimizer=adam; change", {"optimizer": "adamw"}),
        ({"cache_dir": "faces"}, "without --cache=disk; add", {"cache": "disk"}),
        ({"label_smoothing": 0.2, **TAUGHT}, "with --distill=1; change", {"distill": 0.9}),
        ({"class_weight": "balanced", **TAUGHT}, "with --distill=1; change", {"distill": 0.9}),
        (
            {"normalization_momentum": 0.5, "init_weights": "pretrained", "freeze": "backbone"},
            "with --freeze=backbone; change",
            {"freeze": "12"},
        ),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(tmp_path, unread, said, read):
    recipes.check_used(recipes.resolve(Config(**unread | read)))
    name, value = next(iter(unread.items()))
    with pytest.raises(UserError, match=f"^--{name}={value}: has no effect {said} that or leave"):
        stages.run_training(Config(run_dir=tmp_path / "run", **unread), None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_what_the_recipe_decides_may_be_passed_as_well(recipe, optimizer):
    config = recipes.resolve(Config(recipe=recipe, optimizer=optimizer))
    recipes.check_used(config)
    recipes.check_used(dataclasses.replace(config, warmup=0.0, weight_decay=0.0))


def test_help_tells_what_a_setting_is_in_each():
    assert (
        recipes.values_of("batch_size") == "By the recipe: notebook: 64; tuned: 128; finetune: 32."
    )
    assert recipes.values_of("dropout").startswith("By the recipe: notebook: its own; tuned: 0.1;")
    assert recipes.values_of("init_weights").endswith("tuned: none; finetune: pretrained.")
    assert recipes.values_of("seed") == ""
    assert recipes.values_of("learning_rate") == (
        "By the recipe: notebook: 0.0005, 0.012 with muon; "
        "tuned: 0.012, 0.002 with adam, 0.002 with adamw; finetune: 0.0003, 0.006 with muon."
    )
