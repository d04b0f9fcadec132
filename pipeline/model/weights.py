"""Networks of a model folder: creation, and storage as safetensors."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pneumoseg.models import ENCODERS, AttentionUNet
from pneumoseg.pipeline.core.config import NetworkConfig
from pneumoseg.pipeline.core.errors import JobError, first_line
from pneumoseg.pipeline.core.files import sha256_of, written_atomically
from pneumoseg.pipeline.model.description import DESCRIPTION, Member, ModelDescription


def make_network(config: NetworkConfig) -> AttentionUNet:
    """Make the network of a configuration with new initial weights.

    Pretrained weights of the encoder are not loaded here, so that a trained model can be read without them.

    Args:
        config: Configuration of the network.
    """
    encoder = ENCODERS[config.encoder]() if config.encoder else None
    return AttentionUNet(encoder=encoder, **config.model_dump(exclude={"encoder", "encoder_weights"}))


def layers_of(config: NetworkConfig) -> dict[str, object]:
    """List the values of a configuration that weights depend on, without those that say how they are initialised.

    Args:
        config: Configuration of the network.
    """
    return config.model_dump(exclude={"encoder_weights", "head_prior"})


def place(network: AttentionUNet, device: torch.device, *, channels_last: bool = True) -> AttentionUNet:
    """Move a network to a device, in the memory format that is faster on most devices.

    Args:
        network: Network to move.
        device: Target device.
        channels_last: Whether to use the memory format channels last.
    """
    network = network.to(device)
    if channels_last:
        # torch knows the argument, its annotations do not
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_weights(
    folder: Path,
    network: AttentionUNet,
    *,
    fold: int | None,
    epoch: int | None = None,
    number: int = 0,
    half: bool = False,
) -> Member:
    """Write the weights of one member of a model.

    Args:
        folder: Model folder.
        network: Network with the weights.
        fold: Held-out fold, which the weights were not trained on; None where no image was held out.
        epoch: Epoch of the weights, where the model has several members of a fold.
        number: Number of other members of this fold and epoch that the folder has already.
        half: Whether to store kernels in half precision (float16), which halves the file; see `round_to_half`.
    """
    name = "weights/all" if fold is None else f"weights/fold{fold}"
    name += "" if epoch is None else f"-epoch{epoch:04d}"
    name += f"-{number}.safetensors" if number else ".safetensors"
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if half:
        weights = {key: value.half() if _is_kernel(value) else value for key, value in weights.items()}
    with written_atomically(folder / name) as temporary:
        temporary.write_bytes(save(weights))  # safetensors' own errors hide that the disk is full
    return Member(weights=name, sha256=sha256_of(folder / name), held_out_fold=fold)


def round_to_half(network: AttentionUNet) -> AttentionUNet:
    """Round the kernels of a network to the numbers that half precision stores; it computes in float32 as before.

    Args:
        network: Network to change.
    """
    with torch.no_grad():
        for value in filter(_is_kernel, network.state_dict().values()):
            value.copy_(value.half())
    return network


def _is_kernel(value: Tensor) -> bool:
    """Whether a tensor is a kernel: biases and statistics are few, and half precision may not hold them."""
    return value.is_floating_point() and value.ndim > 1


def load_member(folder: Path, description: ModelDescription, member: Member) -> AttentionUNet:
    """Read one network of a model folder.

    Args:
        folder: Model folder.
        description: Description of the model.
        member: Member to read.

    Raises: JobError: If its weights are missing, altered, non-finite or of another network.
    """
    path = folder / member.weights
    if not path.resolve().is_relative_to(folder.resolve()):
        raise JobError(f"{folder / DESCRIPTION}: weights {member.weights} lie outside of the model folder")
    if not path.is_file():
        raise JobError(f"{path}: the weights of the model are missing; copy the model folder as a whole")
    if sha256_of(path) != member.sha256:
        raise JobError(
            f"{path}: the weights are not those that {DESCRIPTION} describes; copy the folder anew"
        )
    network = make_network(description.network)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise JobError(f"{path}: does not fit the network of {DESCRIPTION} ({first_line(error)})") from None
    if not is_finite(network.state_dict()):
        raise JobError(
            f"{path}: holds non-finite weights (NaN or Inf); copy the model folder anew, or train again"
        )
    return network


def is_finite(weights: Mapping[str, Tensor]) -> bool:
    """Check that a state dict holds no NaN and no Inf.

    Args:
        weights: State dict of a network.
    """
    checks = [value.isfinite().all() for value in weights.values()]
    return not checks or bool(torch.stack(checks).all())  # one copy to the host for all tensors


def non_finite_outputs(finite: Tensor) -> JobError:
    """Make the error of non-finite outputs of a network, whose probabilities would be taken for an empty mask.

    Args:
        finite: Whether all logits of an image are finite, one boolean for each image.
    """
    count, images = int((~finite).sum()), finite.numel()
    return JobError(
        f"the outputs of the network are non-finite (NaN or Inf) for {count} of {images} images: its weights "
        "are damaged or were trained wrongly; use another model"
    )
