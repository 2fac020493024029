"""Recipes: named sets of settings, each of which a flag of the same name overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The notebook's, and one that was tuned on FER-2013 (``BUILD_NOTES.md``).
RECIPES: dict[str, dict[str, Any]] = {
    "notebook": {
        "batch_size": 64,
        "learning_rate": 5e-4,
        "optimizer": "adam",
        "schedule": "plateau",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "dropout": None,
        "normalization_momentum": 0.99,
        "augment": "flip",
        "temperature": 1.0,
        "distill": 0.5,
    },
    "tuned": {
        "batch_size": 128,
        "learning_rate": 0.012,
        "optimizer": "muon",
        "schedule": "linear",
        "warmup": 0.05,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "dropout": 0.1,
        "normalization_momentum": 0.9,
        "augment": "flip,shift:3,rotate:8,zoom:0.08",
        "temperature": 2.0,
        "distill": 0.7,
    },
}


def settings(recipe: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings, with those of ``chosen`` that are not None in their place."""
    return RECIPES[recipe] | {name: value for name, value in chosen.items() if value is not None}


def defaults(name: str) -> str:
    """What a setting is in every recipe, for ``--help``."""
    shown = (
        f"{recipe}: {'its own' if values[name] is None else values[name]}"
        for recipe, values in RECIPES.items()
    )
    return f"By the recipe: {'; '.join(shown)}."
