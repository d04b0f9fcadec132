"""One step of the training: what `SupervisedTrainer` does with a batch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf, isfinite
from typing import Any, Final, Literal

import ignite.distributed as idist
import numpy as np
import torch
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pneumoseg.models import AttentionUNet, TrainingOutputs
from pneumoseg.pipeline.devices import Precision, gather
from pneumoseg.pipeline.errors import JobError

Batch = dict[str, Any]
STOP: Final = "stop"
"""Of a step's output: the number of the signal that some process of the run has received, or 0."""


class Learner(nn.Module):
    """The network as it is called while it learns; what `DistributedDataParallel` is put around.

    Args:
        network: Gives logits and, where it has more heads, what these say.
    """

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> TrainingOutputs:
        """Give all that a loss may look at."""
        return self.network.forward_for_training(image)


class TrainingStep:
    """MONAI's ``iteration_update``: forward, loss, backward, clip, move the weights.

    MONAI's own is float16 on CUDA whatever the device, and has no moment between unscaling the gradients and the
    step at which they could be clipped.

    Args:
        precision: In which the network computes.
        scaler: Of fp16 gradients.
        clip_norm: Gradients are scaled down to this norm.
        on_bad_step: Whether to stop or to go on when loss or gradients are no numbers.
        seed: Dropout is a function of it and of the step.
        names: Of the cases, by their place in the manifest.
        received_signal: Asked in each step, so that all processes of a run stop after the same one.

    Attributes:
        accumulate: Parts in which a batch is computed.
        skipped: Steps that were left out since they were no numbers.
    """

    def __init__(
        self,
        precision: Precision,
        scaler: torch.amp.GradScaler,
        *,
        clip_norm: float | None,
        on_bad_step: Literal["stop", "skip"],
        seed: int,
        names: Sequence[str],
        received_signal: Callable[[], int] = lambda: 0,
    ) -> None:
        self.precision = precision
        self.scaler = scaler
        self.clip_norm = inf if clip_norm is None else clip_norm
        self.on_bad_step = on_bad_step
        self.seed = seed
        self.names = names
        self.received_signal = received_signal
        self.accumulate = 1
        self.skipped = 0

    def __call__(self, engine: Any, batch: Batch) -> dict[str, float | int]:
        """Do the step; gives the mean loss of all processes.

        Raises: JobError: If loss or gradients are no numbers, and that is to stop the run.
        """
        torch.manual_seed(_step_seed(self.seed, engine.state.iteration, idist.get_rank()))
        image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        network = engine.network.train()
        # a normalization has taken a batch into its running means before it is known to be bad
        buffers = [buffer.clone() for buffer in network.buffers()]
        engine.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(network, engine.loss_function, image, label)
        self.scaler.unscale_(engine.optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)

        # one look at the device for all that the host wants to know; the same in all processes
        told = torch.stack([loss, norm.to(loss.dtype), loss.new_tensor(float(self.received_signal()))])
        if idist.get_world_size() > 1:
            told = torch.as_tensor(idist.all_gather(told[None]))
            mean_loss, norm_value, signal = (
                told[:, 0].mean().item(),
                told[0, 1].item(),
                told[:, 2].max().item(),
            )
        else:
            mean_loss, norm_value, signal = told.tolist()
        # with fp16 the scaler looks at the gradients, leaves such a step out, and goes on with a smaller scale
        if isfinite(mean_loss) and (self.scaler.is_enabled() or isfinite(norm_value)):
            self.scaler.step(engine.optimizer)
        else:
            self._refuse(mean_loss, norm_value, engine.state.iteration, batch)
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self.scaler.update()
        return {Keys.LOSS: mean_loss, STOP: int(signal)}

    def _backward(
        self,
        network: nn.Module,
        loss_function: Callable[[TrainingOutputs, Tensor], Tensor],
        image: Tensor,
        label: Tensor,
    ) -> Tensor:
        """Add up the gradients of all parts of a batch."""
        parts = list(zip(image.chunk(self.accumulate), label.chunk(self.accumulate), strict=True))
        total = image.new_zeros(())
        for number, (part, its_label) in enumerate(parts, start=1):
            with _gradients_stay_here(network) if number < len(parts) else nullcontext():
                with self.precision.autocast():
                    outputs = network(part)
                loss = loss_function(outputs, its_label) * (len(part) / len(image))
                torch.autograd.backward(self.scaler.scale(loss))
            total = total + loss.detach()
        return total

    def _refuse(self, loss: float, norm: float, iteration: int, batch: Batch) -> None:
        places = batch["index"].tolist()
        if idist.get_world_size() > 1:
            places = [place for each in gather(places) for place in each]
        what = f"the loss is {loss}" if not isfinite(loss) else f"the gradient's norm is {norm}"
        cases = ", ".join(self.names[place] for place in places)
        if self.on_bad_step == "stop":
            raise JobError(
                f"{what} at step {iteration}; a lower optimization.learning_rate, precision=float32, or a look at the "
                f"images of the batch would fit: {cases}"
            )
        self.skipped += 1


def _gradients_stay_here(network: nn.Module) -> AbstractContextManager[object]:
    """Processes exchange gradients once a step and not after each part."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def _step_seed(seed: int, iteration: int, rank: int) -> int:
    # 32 bits: torch's generator on the CPU looks at no more of a seed
    return int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1)[0])
