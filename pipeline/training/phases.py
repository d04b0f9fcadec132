"""The phases of a run: low resolutions first, each for some epochs, and the final one."""

from dataclasses import dataclass

from pneumoseg.pipeline.config import TrainConfig


@dataclass(frozen=True)
class Phase:
    """Epochs at one resolution.

    Attributes:
        image_size: Side of the square that the network sees, in pixels.
        first_epoch: From 1.
        last_epoch: Belongs to the phase.
        accumulate: Parts in which a batch is computed.
    """

    image_size: int
    first_epoch: int
    last_epoch: int
    accumulate: int


def plan_phases(config: TrainConfig) -> tuple[Phase, ...]:
    """The phases that a configuration asks for, in order."""
    phases: list[Phase] = []
    last = 0
    for size, epochs, accumulate in (
        *((stage.image_size, stage.epochs, stage.accumulate) for stage in config.data.stages),
        (config.data.image_size, config.optimization.epochs, config.data.accumulate),
    ):
        phases.append(Phase(size, last + 1, last + epochs, accumulate))
        last += epochs
    return tuple(phases)


def phase_of(phases: tuple[Phase, ...], epoch: int) -> int:
    """Which phase an epoch, counted from 1, belongs to."""
    return next(number for number, phase in enumerate(phases) if epoch <= phase.last_epoch)
