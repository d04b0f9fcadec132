"""Plan the phases of a run: low resolutions first, each for some epochs, then the final one."""

from dataclasses import dataclass

from pneumoseg.pipeline.core.config import Stage, TrainConfig


@dataclass(frozen=True)
class Phase:
    """Epochs at one resolution.

    Attributes:
        image_size: Side of the square that the network sees, in pixels.
        first_epoch: First epoch of the phase; epochs count from 1.
        last_epoch: Last epoch of the phase.
        accumulate: Gradient accumulation steps (micro-batches).
        crop: Side of the random crops that the network is trained on, in pixels; None trains on whole images.
    """

    image_size: int
    first_epoch: int
    last_epoch: int
    accumulate: int
    crop: int | None = None


def plan_phases(config: TrainConfig) -> tuple[Phase, ...]:
    """Plan the phases of a run.

    Args:
        config: Configuration with the stages at lower resolutions.

    Returns: All phases in order; the last one is that of the final resolution.
    """
    data = config.data
    final = Stage(
        image_size=data.image_size,
        epochs=config.optimization.epochs,
        accumulate=data.accumulate,
        crop=data.crop,
    )
    phases: list[Phase] = []
    last = 0
    for stage in (*data.stages, final):
        phases.append(
            Phase(stage.image_size, last + 1, last + stage.epochs, stage.accumulate, crop=stage.crop)
        )
        last += stage.epochs
    return tuple(phases)


def phase_of(phases: tuple[Phase, ...], epoch: int) -> int:
    """Find the phase of an epoch.

    Args:
        phases: Phases of the run, in order.
        epoch: Number of the epoch, from 1.

    Returns: Index of the phase.
    """
    return next(index for index, phase in enumerate(phases) if epoch <= phase.last_epoch)
