"""Configurations of tiny training runs."""

from typing import Any

from pneumoseg.pipeline.core.config import TrainConfig

SETTINGS: dict[str, Any] = {
    "network": {"features": [4, 8, 8, 8, 8], "dropout": 0.0},
    "data": {"image_size": 32, "batch_size": 4},
    "optimization": {"epochs": 2, "patience": None},
    "precision": "float32",
}
CONFIG = TrainConfig.model_validate(SETTINGS)
STILL = TrainConfig.model_validate(  # stays where it begins
    {**SETTINGS, "optimization": {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0}}
)
