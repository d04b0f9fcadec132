"""Which case is drawn at which moment of training.

All of it is a function of the seed and of the position in the run: the permutation of (seed, epoch), the
augmentation of a case of (seed, epoch, index). A run can thus go on from any step as if it had never
stopped, with any number of loader workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """A case to load, the seed of its augmentation, and the phase of the run, which says the resolution."""

    index: int
    seed: int
    phase: int = 0


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """How an epoch is drawn from cases.

    Args:
        positive: For each case, whether there is a pneumothorax.
        positive_rate: Share of positive cases among those drawn; None draws each case once.
        final_positive_rate: What that share becomes in the last epoch, in a straight line; None keeps it.
        epochs: Of the whole run.
        batch_size: Draws a step; an epoch's last draws that fill no batch are left out.
        seed: Of the run.
    """

    positive: Sequence[bool]
    positive_rate: float | None
    batch_size: int
    seed: int
    final_positive_rate: float | None = None
    epochs: int = 1

    @property
    def steps(self) -> int:
        """Steps an epoch: as many draws as there are cases, at least one step."""
        return max(1, len(self.positive) // self.batch_size)

    def rate(self, epoch: int) -> float | None:
        """Share of positive cases in *epoch*, which counts from 0."""
        if self.positive_rate is None or self.final_positive_rate is None:
            return self.positive_rate
        done = epoch / max(1, self.epochs - 1)
        return (1 - done) * self.positive_rate + done * self.final_positive_rate

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """Case indices of *epoch*, shape ``(steps, batch_size)``."""
        generator = np.random.default_rng([self.seed, epoch])
        flags = np.asarray(self.positive, dtype=bool)
        draws = self.steps * self.batch_size
        rate = self.rate(epoch)
        if rate is None or flags.all() or not flags.any():
            chosen = _take(np.arange(len(flags)), draws, generator)
        else:
            positives = round(rate * draws)
            chosen = np.concatenate(
                [
                    _take(np.flatnonzero(flags), positives, generator),
                    _take(np.flatnonzero(~flags), draws - positives, generator),
                ]
            )
        return generator.permutation(chosen).reshape(self.steps, self.batch_size)

    def augmentation_seed(self, epoch: int, position: int) -> int:
        """Seed of the augmentation of one draw."""
        return int(np.random.SeedSequence([self.seed, epoch, position]).generate_state(1)[0])


def _take(
    members: npt.NDArray[np.int64], count: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    # whole permutations one after the other, so that no case comes again before all have come
    rounds = -(-count // len(members))
    return np.concatenate([generator.permutation(members) for _ in range(rounds)] or [members])[:count]


class BatchPlan(Sampler[list[Draw]]):
    """The batches of a whole run, from one step on.

    Ignite keeps one iterator for all epochs when it is told their length: loader workers live as long as the
    run, and the step says the epoch.

    Args:
        plan: How an epoch is drawn.
        phases: For each epoch of the whole run, its phase.
        first_step: Steps that are done already.
        shard: Which share of each batch is this process's, and of how many.
    """

    def __init__(
        self,
        plan: DrawPlan,
        *,
        phases: Sequence[int],
        first_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.plan = plan
        self.phases = phases
        self.first_step = first_step
        self.shard = shard

    def __len__(self) -> int:
        """Steps that are left."""
        return len(self.phases) * self.plan.steps - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        """Draw batch after batch."""
        rank, processes = self.shard
        first_epoch, skipped = divmod(self.first_step, self.plan.steps)
        for epoch in range(first_epoch, len(self.phases)):
            batches = self.plan.epoch(epoch)
            for step in range(skipped if epoch == first_epoch else 0, self.plan.steps):
                start = step * self.plan.batch_size
                yield [
                    Draw(
                        int(batches[step, position]),
                        self.plan.augmentation_seed(epoch, start + position),
                        self.phases[epoch],
                    )
                    for position in range(rank, self.plan.batch_size, processes)
                ]
