"""Speed of a runtime with a model, and the difference of its outputs from eager float32."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pneumoseg.pipeline.core.config import RuntimeName
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.segmentation import radiograph_of
from pneumoseg.pipeline.runtimes.forward import Forward, plain_forward
from pneumoseg.pipeline.runtimes.members import member_forward
from pneumoseg.transforms.network_input import network_input

_ROUNDS = 3
_PHANTOMS = 2
_PHANTOM_SIZE = 256


@dataclass(frozen=True)
class Measured:
    """Measurement of a runtime with a model.

    Attributes:
        runtime: Name of the runtime.
        start_s: Seconds to start all members when the cache folder has what they need.
        pass_s: Seconds of one forward pass of one image.
        difference: Largest difference of a probability from eager float32; None if the runtime does not work here.
        differing_px: Pixels that are not on the same side of the operating point's threshold as in eager float32.
        pixels: Number of compared pixels.
    """

    runtime: RuntimeName
    start_s: float
    pass_s: float
    difference: float | None
    differing_px: int
    pixels: int

    def total_s(self, passes: int) -> float:
        """Estimate the seconds of a job, with its start.

        Args:
            passes: Number of forward passes of one image.
        """
        return self.start_s + passes * self.pass_s


def make_check_images(model: Model, at_once: int) -> tuple[Tensor, ...]:
    """Render phantoms and prepare them as a job prepares its images.

    Args:
        model: Model, which determines their size.
        at_once: Number of images that are computed at once.

    Returns: Batches of (B, 1, H, W), standardised, on the device of the networks; at least two images in all.
    """
    from pneumoseg.pipeline.phantom.rendering import render_phantom  # noqa: PLC0415  (a second, and only on first use)

    phantoms = [render_phantom(seed, size=_PHANTOM_SIZE).image for seed in range(_PHANTOMS)]
    images = [network_input(radiograph_of(phantom), model.image_size)[0] for phantom in phantoms]
    repeated = [images[index % len(images)] for index in range(max(at_once, _PHANTOMS))]
    return torch.split(torch.stack(repeated).to(model.precision.device), at_once)


@torch.no_grad()
def measure_runtime(model: Model, runtime: RuntimeName, batches: Sequence[Tensor]) -> Measured:
    """Start a runtime, check the outputs of each member, and measure the speed of the first.

    Args:
        model: Model.
        runtime: Name of the runtime, which is installed and computes in the model's precision.
        batches: Images, each (B, 1, H, W): see `make_check_images`.

    Raises: Exception: Whatever the runtime raises where it does not work here.
    """
    threshold = model.operating_point.mask_threshold
    difference, differing_px, pixels = 0.0, 0, 0
    for index in range(len(model.networks)):
        exact, found = (
            torch.cat([torch.sigmoid(forward(images).logits[:, :1].float()) for images in batches])
            for forward in (_eager_float32(model, index), _start(model, runtime, index))
        )
        difference = max(difference, float((exact - found).abs().nan_to_num(nan=1.0).max()))
        differing_px += int(((exact > threshold) != (found > threshold)).sum())
        pixels += exact.numel()
    start_s = 0.0
    if runtime != "torch":
        torch.compiler.reset()  # or else it would find its kernels in memory
        began = time.perf_counter()
        forward = _start(model, runtime, 0)
        forward(batches[0])
        start_s = time.perf_counter() - began
    else:
        forward = _start(model, runtime, 0)
    pass_s = _seconds(lambda: forward(batches[0]).logits.float().sum().item())  # which waits for a GPU
    return Measured(
        runtime,
        start_s=start_s * len(model.networks),
        pass_s=pass_s / len(batches[0]),
        difference=difference,
        differing_px=differing_px,
        pixels=pixels,
    )


def _eager_float32(model: Model, index: int) -> Forward:
    return plain_forward(model.networks[index].eval(), Precision(model.precision.device, torch.float32))


def _start(model: Model, runtime: RuntimeName, index: int) -> Forward:
    """Start the runtime of a member."""
    member, network = model.description.members[index], model.networks[index]
    return member_forward(
        model.folder, model.description, member, network, runtime=runtime, precision=model.precision
    )


def _seconds(work: Callable[[], object]) -> float:
    """Measure the least time of a call, to which other processes only add, after one call that is not measured."""
    work()
    samples = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        samples.append(time.perf_counter() - began)
    return min(samples)
