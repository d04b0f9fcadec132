"""One step of the training: what `SupervisedTrainer` does with a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf, isfinite
from typing import Any, Final, Literal, NamedTuple

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pneumoseg.models import TrainingOutputs
from pneumoseg.pipeline.core.devices import Precision
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.interruption import Interruption

Batch = dict[str, Any]
LossFunction = Callable[[TrainingOutputs, Tensor, Tensor], Tensor]
STOP: Final = "stop"
"""Key in the output of a step: number of the signal that a process of the run has received, or 0."""
# columns of the numbers of a step; the places of its cases come last
_LOSS, _NORM, _SIGNAL, _PLACES = range(4)


class _Pending(NamedTuple):
    """Step whose numbers are on their way to the host."""

    iteration: int
    numbers: Tensor  # a row for each process, in pinned memory beside a GPU
    places: Tensor  # of this process's cases in the manifest, on the host
    arrived: torch.cuda.Event | None


class TrainingStep:
    """MONAI's ``iteration_update``: forward, loss, backward, clip, move the weights, without waiting for the device.

    MONAI's own is float16 on CUDA whatever the device, and has no moment between unscaling the gradients and the
    step at which they could be clipped.

    Whether loss and gradients are finite stays on the device: a fused optimizer takes the flag as ``found_inf``, as it
    does from torch's gradient scaler, and leaves weights and its state as they are. The host reads loss, norm and flag
    of a step only after it has issued the next one, so that the device never waits for it; `settle` and `read` read
    those of the last step. After a bad step that is to stop the run, no further step changes the weights.

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
        on_loss: Called with the loss of each step that was not skipped, at most one step later.
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
        self.on_loss: Callable[[float], object] = lambda _: None
        self.skipped = 0
        self.scaler_skipped = 0
        self._pending: _Pending | None = None
        self._spare: Tensor | None = None
        self._signal = 0
        self._stopped: Tensor | None = None
        self._failure: JobError | None = None

    def __call__(self, engine: Any, batch: Batch) -> dict[str, Tensor | int]:
        """Do one step; returns its mean loss in all processes, on the device, and the signal that ends the run, or 0.

        Several processes learn of a signal one step later.

        Args:
            engine: Engine that holds network, loss function, device and a fused optimizer.
            batch: `image` and `label` of shape (B, 1, H, W), `positive` and `index` of shape (B,).

        Raises:
            JobError: If loss or gradients of the step before were non-finite and `on_bad_step` is ``stop``.
            ValueError: If the optimizer is not fused.
        """
        if not getattr(engine.optimizer, "_step_supports_amp_scaling", False):
            raise ValueError("an optimizer with fused=True would fit: others do not know found_inf")
        image, label = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
        positive = batch["positive"].to(engine.state.device, non_blocking=engine.non_blocking)
        network = engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with _restored_on_error(network) as buffers:
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

            numbers = self._share(loss, norm, batch["index"])
            mean_loss = numbers[:, _LOSS].mean()
            left_out = self._leaves_out(mean_loss, norm)
            engine.optimizer.found_inf = left_out.float()
            engine.optimizer.step()
        buffers.restore(left_out)

        previous, self._pending = self._pending, self._send(engine.state.iteration, numbers, batch["index"])
        self._read(previous)
        self._check()
        if self.scaler.is_enabled():
            self.scaler.update()
        signal = self._signal if idist.get_world_size() > 1 else self.interruption.received
        return {Keys.LOSS: mean_loss, STOP: signal}

    def attach(self, engine: Engine) -> None:
        """Read the numbers of the last step at the end of each epoch of the trainer *engine*."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.settle)

    def read(self) -> None:
        """Wait for the last step and count it, without ending the run: processes save at times of their own."""
        pending, self._pending = self._pending, None
        self._read(pending)

    def settle(self) -> None:
        """Wait for the last step and count it.

        Raises: JobError: If its loss or gradients were non-finite and `on_bad_step` is ``stop``.
        """
        self.read()
        self._check()

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
        """Compute the gradients of a batch, in micro-batches where these are requested; returns the loss.

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

    def _leaves_out(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Tell, on the device, whether a step is not to change the weights."""
        is_bad = torch.logical_and(loss.isfinite(), norm.isfinite()).logical_not()
        if self.on_bad_step == "skip":
            return is_bad
        # the host learns of it one step later, and that step is left out too
        ends = loss.isfinite().logical_not() if self.scaler.is_enabled() else is_bad
        self._stopped = ends if self._stopped is None else ends | self._stopped
        return is_bad | self._stopped

    def _share(self, loss: Tensor, norm: Tensor, places: Tensor) -> Tensor:
        """Collect the numbers of a step from all processes, a row for each, without a copy to the host."""
        # `new_full` is computed on the device; a copy of a number to it would wait
        own = torch.stack([loss, norm.to(loss.dtype), loss.new_full((), float(self.interruption.received))])
        if idist.get_world_size() == 1:
            return own[None]
        own = torch.cat([own, places.to(own.device, non_blocking=True).to(own.dtype)])  # exact below 2**24
        rows = own.new_empty(idist.get_world_size(), len(own))
        torch.distributed.all_gather_into_tensor(rows, own[None])  # gloo compares the shapes of the parts
        return rows

    def _send(self, iteration: int, numbers: Tensor, places: Tensor) -> _Pending:
        """Start to copy numbers to the host, into the one of two buffers that is not about to be read."""
        is_cuda = numbers.device.type == "cuda"
        target, self._spare = self._spare, None
        if target is None or target.shape != numbers.shape:
            target = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=is_cuda)
        target.copy_(numbers, non_blocking=True)
        arrived = None
        if is_cuda:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(torch.cuda.current_stream(numbers.device))
        return _Pending(iteration, target, places, arrived)

    def _read(self, step: _Pending | None) -> None:
        """Read the numbers of a step once they have arrived, and count it."""
        if step is None:
            return
        if step.arrived is not None:
            step.arrived.synchronize()
        rows, self._spare = step.numbers.tolist(), step.numbers
        loss, norm = sum(row[_LOSS] for row in rows) / len(rows), rows[0][_NORM]
        self._signal = int(max(row[_SIGNAL] for row in rows))
        # with fp16 the scaler looks for its scale: gradients that overflow are a matter of course
        if not isfinite(loss) or not (isfinite(norm) or self.scaler.is_enabled()):
            self.skipped += 1
            if self.on_bad_step == "stop":
                places = [int(place) for row in rows for place in row[_PLACES:]] or step.places.tolist()
                names = [self.names[place] for place in places]
                self._failure = JobError(_explain(loss, norm, step.iteration, names))
            return
        self.scaler_skipped += not isfinite(norm)
        self.on_loss(loss)

    def _check(self) -> None:
        if self._failure is not None:
            self._pending = None  # it was left out
            raise self._failure


def _explain(loss: float, norm: float, iteration: int, cases: Sequence[str]) -> str:
    what = f"the loss is {loss}" if not isfinite(loss) else f"the gradient's norm is {norm}"
    return (
        f"{what} at step {iteration}; a lower optimization.learning_rate, precision=float32, or a look at the images "
        f"of the batch would fit: {', '.join(cases)}"
    )


def _tensors(outputs: TrainingOutputs) -> list[Tensor]:
    """List all outputs; an image head's come last."""
    of_image = [] if outputs.image_logits is None else [outputs.image_logits]
    return [outputs.logits, *outputs.deep_logits, *of_image]


def _outputs(tensors: Sequence[Tensor]) -> TrainingOutputs:
    """Undo `_tensors`: only the logits of an image head have two dimensions."""
    maps = [tensor for tensor in tensors if tensor.ndim == 4]
    return TrainingOutputs(maps[0], maps[1:], None if len(maps) == len(tensors) else tensors[-1])


class _SavedBuffers:
    """Copies of the buffers of a network, one tensor for each number format, so that a GPU is called a few times.

    An encoder has 174 buffers. With a copy for each, they take two fifths of all calls of a step.
    """

    def __init__(self, network: nn.Module) -> None:
        self._buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in network.buffers():
            self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._before = {dtype: _joined(buffers) for dtype, buffers in self._buffers.items()}

    @torch.no_grad()
    def restore(self, where: Tensor | None = None) -> None:
        """Copy the numbers back; only if *where*, a boolean on the device, is True, without waiting for it."""
        for dtype, buffers in self._buffers.items():
            before = self._before[dtype]
            kept = before if where is None else torch.where(where, before, _joined(buffers))
            parts = torch.split(kept, [buffer.numel() for buffer in buffers])
            shaped = [part.view(buffer.shape) for part, buffer in zip(parts, buffers, strict=True)]
            torch._foreach_copy_(buffers, shaped)


def _joined(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])


@contextmanager
def _restored_on_error(network: nn.Module) -> Iterator[_SavedBuffers]:
    """Yield copies of the buffers of a network, and restore the buffers if an error ends the step.

    A batch normalization takes a batch into its running means before it is known whether the step counts. Without
    memory for its loss, for example, it does not, and the state that is then saved has to be that of the step before.
    """
    saved = _SavedBuffers(network)
    try:
        yield saved
    except BaseException:
        saved.restore()
        raise


def _gradients_stay_here(network: nn.Module) -> AbstractContextManager[object]:
    """Let processes exchange gradients once a step and not after each micro-batch."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def _step_seeds(seed: int, iteration: int, rank: int, count: int) -> list[int]:
    # 32 bits: torch's generator on the CPU looks at no more of a seed
    return [int(state) for state in np.random.SeedSequence([seed, iteration, rank]).generate_state(count)]
