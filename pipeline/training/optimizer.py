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

    Returns: A fused optimizer, which leaves a step out where the device finds that it is not finite. Its first
        parameter group holds all but the encoder, and logs its learning rate; an encoder is the second group, with its
        own share of the learning rate.
    """
    encoder = [] if network.encoder is None else list(network.encoder.parameters())
    in_encoder = set(encoder)
    others = [parameter for parameter in network.parameters() if parameter not in in_encoder]
    groups: list[dict[str, Any]] = [{"params": others, "lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_rate * config.learning_rate})
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    optimizer = torch.optim.SGD(
        groups,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
        fused=True,
    )
    if config.momentum:
        # torch allocates them in the first step and fills them only if that step is not left out
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
