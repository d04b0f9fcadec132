import pytest

from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, Stage, TrainConfig
from pneumoseg.pipeline.training.phases import Phase, phase_of, plan_phases

STAGED = TrainConfig(
    data=DataConfig(
        image_size=64,
        accumulate=4,
        stages=(Stage(image_size=16, epochs=3), Stage(image_size=32, epochs=1, accumulate=2)),
    ),
    optimization=OptimizationConfig(epochs=2),
)


def test_without_stages_there_is_one_phase() -> None:
    config = TrainConfig(optimization=OptimizationConfig(epochs=7))
    assert plan_phases(config) == (Phase(image_size=256, first_epoch=1, last_epoch=7, accumulate=1),)


def test_stages_come_before_the_final_resolution_one_after_the_other() -> None:
    assert plan_phases(STAGED) == (
        Phase(image_size=16, first_epoch=1, last_epoch=3, accumulate=1),
        Phase(image_size=32, first_epoch=4, last_epoch=4, accumulate=2),
        Phase(image_size=64, first_epoch=5, last_epoch=6, accumulate=4),
    )


@pytest.mark.parametrize(("epoch", "phase"), [(1, 0), (3, 0), (4, 1), (5, 2), (6, 2)])
def test_an_epoch_belongs_to_the_phase_that_it_lies_in(epoch: int, phase: int) -> None:
    assert phase_of(plan_phases(STAGED), epoch) == phase


def test_each_phase_has_the_crop_of_its_stage() -> None:
    config = TrainConfig(
        data=DataConfig(
            image_size=64,
            crop=48,
            stages=(Stage(image_size=32, epochs=1), Stage(image_size=48, epochs=1, crop=32)),
        )
    )
    assert [phase.crop for phase in plan_phases(config)] == [None, 32, 48]
