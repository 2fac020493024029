"""Recipes: named sets of settings, each of which a flag of the same name overrides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fer_pipeline import freezing
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError

_TUNED: dict[str, Any] = {
    "model": "notebook",
    "init_weights": None,
    "batch_size": 128,
    "learning_rate": 0.012,
    "optimizer": "muon",
    "schedule": "linear",
    "warmup": 0.05,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "dropout": 0.1,
    "normalization_momentum": 0.9,
    "ema": 0.0,
    "augment": "flip,shift:3,rotate:8,zoom:0.08",
    "temperature": 2.0,
    "distill": 0.7,
    "calibrate": True,
}

#: The notebook's; one that was tuned on FER-2013, and one for few images of other classes
#: (``BUILD_NOTES.md``).
RECIPES: dict[str, dict[str, Any]] = {
    "notebook": {
        "model": "notebook",
        "init_weights": None,
        "batch_size": 64,
        "learning_rate": 5e-4,
        "optimizer": "adam",
        "schedule": "plateau",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "dropout": None,
        "normalization_momentum": 0.99,
        "ema": 0.0,
        "augment": "flip",
        "temperature": 1.0,
        "distill": 0.5,
        "calibrate": False,
    },
    "tuned": _TUNED,
    "finetune": _TUNED
    | {
        "model": "compact",
        "init_weights": "pretrained",
        "batch_size": 32,
        "learning_rate": 3e-4,
        "optimizer": "adamw",
        "warmup": 0.1,
        "dropout": 0.2,
    },
}


#: The learning rate of a recipe with another optimizer than its own. Muon's is relative to the norm
#: of a kernel, and with Muon's own AdamW a sixth of it; Adam would diverge at it.
_OTHER_RATES = {
    "notebook": {"muon": 0.012},
    "tuned": {"adam": 0.002, "adamw": 0.002},
    "finetune": {"muon": 0.006},
}


def defaults(recipe: str, optimizer: str | None = None) -> dict[str, Any]:
    """What a recipe decides, by name.

    Args:
      recipe: a key of ``RECIPES``.
      optimizer: the one that is chosen; None is the recipe's own.
    """
    values = RECIPES[recipe]
    rate = _OTHER_RATES[recipe].get(optimizer, values["learning_rate"])
    return values | {"learning_rate": rate}


def resolve(config: Config) -> Config:
    """Fills in what a configuration leaves to its recipe; what is chosen stays."""
    recipe = defaults(config.recipe, config.optimizer)
    left_open = {name: value for name, value in recipe.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **left_open)


def check_used(config: Config) -> None:
    """Raises UserError for a setting that no step would read.

    What the recipe itself decides is no mistake of the user's, whether it is read or not.

    Args:
      config: the settings, those resolved that the recipe decides.
    """
    own = defaults(config.recipe, config.optimizer)
    add, change = "without {}; add that or leave it out", "with {}; change that or leave it out"
    labels_count = not config.teacher or config.distill < 1
    variances_move = config.freeze != freezing.BACKBONE
    needs = {
        "teacher": (config.distill, change.format("--distill=0")),
        "distill": (config.teacher, add.format("--teacher")),
        "temperature": (config.teacher, add.format("--teacher")),
        "warmup": (config.schedule != "plateau", change.format("--schedule=plateau")),
        "weight_decay": (config.optimizer != "adam", change.format("--optimizer=adam")),
        "cache_dir": (config.cache == "disk", add.format("--cache=disk")),
        "label_smoothing": (labels_count, change.format("--distill=1")),
        "class_weight": (labels_count, change.format("--distill=1")),
        "normalization_momentum": (variances_move, change.format("--freeze=backbone")),
    }
    for name, (is_read, otherwise) in needs.items():
        value = getattr(config, name)
        if value and value != "none" and not is_read and value != own.get(name):
            raise UserError(f"--{name}={value}: has no effect {otherwise}")


def recorded(record: Mapping[str, Any], name: str) -> Any:
    """A setting of a ``config.json``; what an older version did not record is the recipe's."""
    value = record.get(name)
    recipe = defaults(record.get("recipe", "notebook"), record.get("optimizer"))
    return recipe[name] if value is None else value


def values_of(name: str) -> str:
    """What a setting is in every recipe, for ``--help``; empty where recipes do not decide it."""
    if name not in RECIPES["notebook"]:
        return ""
    none = "its own" if name == "dropout" else "none"
    shown = [
        f"{recipe}: {none if values[name] is None else values[name]}"
        for recipe, values in RECIPES.items()
    ]
    if name == "learning_rate":
        others = (_OTHER_RATES[recipe].items() for recipe in RECIPES)
        pairs = [[f"{rate} with {optimizer}" for optimizer, rate in rates] for rates in others]
        shown = [", ".join([own, *rates]) for own, rates in zip(shown, pairs, strict=True)]
    return f"By the recipe: {'; '.join(shown)}."
