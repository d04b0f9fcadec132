"""Sampling of cases in training.

Everything is a function of the seed and of the position in the run: the permutation depends on (seed, epoch), and the
augmentation of a case on (seed, epoch, position). A run therefore resumes with the same samples from any step, with any
number of loader workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """Case to load, seed of its augmentation, and phase of the run, which determines the resolution."""

    index: int
    seed: int
    phase: int = 0


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """Sampling plan of an epoch.

    Args:
        positive: Whether each case is positive.
        positive_rate: Share of positives among the samples; None samples each case once.
        final_positive_rate: Share of positives in the last epoch, reached linearly; None keeps the share.
        epochs: Number of epochs of the whole run.
        batch_size: Samples per step; the last samples of an epoch that do not fill a batch are dropped.
        seed: Seed of the run.
    """

    positive: Sequence[bool]
    positive_rate: float | None
    batch_size: int
    seed: int
    final_positive_rate: float | None = None
    epochs: int = 1

    @property
    def steps(self) -> int:
        """Number of steps per epoch, with as many samples as cases; at least one."""
        return max(1, len(self.positive) // self.batch_size)

    def rate(self, epoch: int) -> float | None:
        """Compute the share of positives in an epoch.

        Args:
            epoch: Index of the epoch, from 0.
        """
        if self.positive_rate is None or self.final_positive_rate is None:
            return self.positive_rate
        done = epoch / max(1, self.epochs - 1)
        return (1 - done) * self.positive_rate + done * self.final_positive_rate

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """Sample the cases of an epoch.

        Args:
            epoch: Index of the epoch, from 0.

        Returns: Indices of cases, shape ``(steps, batch_size)``.
        """
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
        """Compute the seed of the augmentation of one sample.

        Args:
            epoch: Index of the epoch, from 0.
            position: Index of the sample within the epoch.
        """
        return int(np.random.SeedSequence([self.seed, epoch, position]).generate_state(1)[0])


def _take(
    members: npt.NDArray[np.int64], count: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    # consecutive permutations, so that no case repeats before all were sampled
    rounds = -(-count // len(members))
    return np.concatenate([generator.permutation(members) for _ in range(rounds)] or [members])[:count]


class BatchPlan(Sampler[list[Draw]]):
    """Batches of a whole run from a given step.

    Ignite keeps one iterator for all epochs when their length is given: loader workers live as long as the run, and the
    step determines the epoch.

    Args:
        plan: Sampling plan of an epoch.
        phases: Phase of each epoch of the whole run.
        first_step: Number of completed steps.
        shard: Index of this process and number of processes, between which each batch is divided.
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
        """Return the number of remaining steps."""
        return len(self.phases) * self.plan.steps - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the samples of this process batch by batch."""
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
