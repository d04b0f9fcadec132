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
from pneumoseg.pipeline.core.devices import Precision, gather
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import Interruption

Batch = dict[str, Any]
LossFunction = Callable[[TrainingOutputs, Tensor, Tensor], Tensor]
STOP: Final = "stop"
"""Key in the output of a step: number of the signal that a process of the run has received, or 0."""


class TrainingForward(nn.Module):
    """The forward pass of training; `DistributedDataParallel` is put around it.

    Args:
        network: Network to train.
    """

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> TrainingOutputs:
        """Run the network.

        Args:
            image: Images, (B, 1, H, W).

        Returns: Outputs of all heads.
        """
        return self.network.forward_for_training(image)


class TrainingStep:
    """MONAI's ``iteration_update``: forward, loss, backward, clip, move the weights.

    MONAI's own is float16 on CUDA whatever the device, and has no moment between unscaling the gradients and the
    step at which they could be clipped.

    Args:
        precision: Number format of the forward pass.
        scaler: Gradient scaler; enabled for fp16 only.
        clip_norm: Gradients are scaled down to this norm; None leaves them.
        on_bad_step: Whether to stop or to skip the step when loss or gradients are non-finite.
        seed: Seed of the run; dropout is a function of it and of the step.
        names: Names of the cases, by their place in the manifest.
        interruption: Signals that this process has received; shared in each step, so that all processes of a run stop
            after the same one.

    Attributes:
        accumulate: Gradient accumulation steps (micro-batches) in which a batch is computed.
        frozen: Parameters whose gradients are dropped, so that they do not change.
        skipped: Steps skipped because loss or gradients were non-finite.
        scaler_skipped: Steps that the gradient scaler of fp16 skipped while it looked for its scale.
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
        interruption: Interruption | None = None,
    ) -> None:
        self.precision = precision
        self.scaler = scaler
        self.clip_norm = inf if clip_norm is None else clip_norm
        self.on_bad_step = on_bad_step
        self.seed = seed
        self.names = names
        self.interruption = interruption or Interruption()
        self.accumulate = 1
        self.frozen: Sequence[nn.Parameter] = ()
        self.skipped = 0
        self.scaler_skipped = 0

    def __call__(self, engine: Any, batch: Batch) -> dict[str, float | int]:
        """Do one step; returns the mean loss of all processes and the signal that ends the run, or 0.

        Args:
            engine: Engine that holds network, loss function, optimizer and device.
            batch: `image` and `label` of shape (B, 1, H, W), `positive` and `index` of shape (B,).

        Raises: JobError: If loss or gradients are non-finite and `on_bad_step` is ``stop``.
        """
        image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        positive = batch["positive"].to(engine.state.device, non_blocking=engine.non_blocking)
        network = engine.network.train()
        # a batch normalization has taken a batch into its running means before it is known to be non-finite
        buffers = [buffer.clone() for buffer in network.buffers()]
        engine.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(
            network,
            engine.loss_function,
            image=image,
            label=label,
            positive=positive,
            iteration=engine.state.iteration,
        )
        for parameter in self.frozen:
            parameter.grad = None
        self.scaler.unscale_(engine.optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)

        # one copy from the device for all that the host needs; the same numbers in all processes
        step_stats = torch.stack(
            [loss, norm.to(loss.dtype), loss.new_tensor(float(self.interruption.received))]
        )
        if idist.get_world_size() > 1:
            step_stats = torch.as_tensor(idist.all_gather(step_stats[None]))
            mean_loss, norm_value, signal = (
                step_stats[:, 0].mean().item(),
                step_stats[0, 1].item(),
                step_stats[:, 2].max().item(),
            )
        else:
            mean_loss, norm_value, signal = step_stats.tolist()
        # with fp16 the scaler checks the gradients itself: it skips such a step and lowers its scale
        if isfinite(mean_loss) and (self.scaler.is_enabled() or isfinite(norm_value)):
            self.scaler.step(engine.optimizer)
        else:
            self._refuse(mean_loss, norm_value, engine.state.iteration, batch)
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self._update_scaler()
        return {Keys.LOSS: mean_loss, STOP: int(signal)}

    def state_dict(self) -> dict[str, int]:
        """Return the numbers of skipped steps, for a checkpoint."""
        return {"skipped": self.skipped, "scaler_skipped": self.scaler_skipped}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue to count from a checkpoint.

        Args:
            state: What `state_dict` returned.
        """
        self.skipped, self.scaler_skipped = state["skipped"], state["scaler_skipped"]

    def _backward(
        self,
        network: nn.Module,
        loss_function: LossFunction,
        *,
        image: Tensor,
        label: Tensor,
        positive: Tensor,
        iteration: int,
    ) -> Tensor:
        """Compute the gradients of a batch, in micro-batches where these are asked for; returns the loss.

        A batch loss such as Dice is no sum over micro-batches. So all outputs are computed first, without a graph;
        the loss of the whole batch gives the gradient of each output; and a second forward pass, micro-batch by
        micro-batch and with the same dropout masks, takes these back to the weights. The gradient is that of the
        whole batch, for a third more computation.
        """
        seeds = _step_seeds(self.seed, iteration, idist.get_rank(), self.accumulate)
        if self.accumulate == 1:
            outputs = self._forward(network, image, seeds[0])
            loss = loss_function(outputs, label, positive)
            torch.autograd.backward(self.scaler.scale(loss))
            return loss.detach()

        parts = image.chunk(self.accumulate)
        with torch.no_grad():
            computed = [
                _tensors(self._forward(network, part, seed)) for part, seed in zip(parts, seeds, strict=True)
            ]
        leaves = [torch.cat(pieces).requires_grad_() for pieces in zip(*computed, strict=True)]
        loss = loss_function(_outputs(leaves), label, positive)
        gradients = torch.autograd.grad(self.scaler.scale(loss), leaves)
        by_part = list(zip(*(gradient.chunk(self.accumulate) for gradient in gradients), strict=True))
        for count, (part, seed, gradient) in enumerate(zip(parts, seeds, by_part, strict=True), start=1):
            with _gradients_stay_here(network) if count < len(parts) else nullcontext():
                torch.autograd.backward(_tensors(self._forward(network, part, seed)), list(gradient))
        return loss.detach()

    def _forward(self, network: nn.Module, image: Tensor, seed: int) -> TrainingOutputs:
        torch.manual_seed(seed)  # of dropout
        with self.precision.autocast():
            outputs: TrainingOutputs = network(image)
        return outputs

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

    def _update_scaler(self) -> None:
        if not self.scaler.is_enabled():
            return
        before = self.scaler.get_scale()
        self.scaler.update()
        self.scaler_skipped += self.scaler.get_scale() < before


def _tensors(outputs: TrainingOutputs) -> list[Tensor]:
    """List all outputs; an image head's come last."""
    of_image = [] if outputs.image_logits is None else [outputs.image_logits]
    return [outputs.logits, *outputs.deep_logits, *of_image]


def _outputs(tensors: Sequence[Tensor]) -> TrainingOutputs:
    """Undo `_tensors`: only the logits of an image head have two dimensions."""
    maps = [tensor for tensor in tensors if tensor.ndim == 4]
    return TrainingOutputs(maps[0], maps[1:], None if len(maps) == len(tensors) else tensors[-1])


def _gradients_stay_here(network: nn.Module) -> AbstractContextManager[object]:
    """Let processes exchange gradients once a step and not after each micro-batch."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def _step_seeds(seed: int, iteration: int, rank: int, count: int) -> list[int]:
    # 32 bits: torch's generator on the CPU looks at no more of a seed
    return [int(state) for state in np.random.SeedSequence([seed, iteration, rank]).generate_state(count)]
