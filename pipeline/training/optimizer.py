"""Make the optimizer that a configuration asks for."""

from typing import Any

import torch

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import OptimizationConfig


def make_optimizer(config: OptimizationConfig, network: AttentionUNet) -> torch.optim.Optimizer:
    """Make the optimizer of a network.

    Args:
        config: Optimizer, learning rate, momentum and weight decay.
        network: Network to train.

    Returns: An optimizer whose first parameter group holds all but the encoder, and logs its learning rate; an encoder
        is the second group, with its own share of the learning rate.
    """
    encoder = [] if network.encoder is None else list(network.encoder.parameters())
    in_encoder = set(encoder)
    others = [parameter for parameter in network.parameters() if parameter not in in_encoder]
    groups: list[dict[str, Any]] = [{"params": others, "lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_rate * config.learning_rate})
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
