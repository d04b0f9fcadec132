import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.pipeline.training.runs import (
    PLAIN,
    RICH,
    configure,
    last,
    make_cases,
    make_pixels,
    make_run,
    train,
)

from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.training.checkpoint import State


@pytest.fixture(scope="package")
def cases() -> tuple[Case, ...]:
    return make_cases()


@pytest.fixture(scope="package")
def pixels() -> NDArray[np.uint8]:
    return make_pixels()


@pytest.fixture(
    scope="package",
    params=[pytest.param(PLAIN, id="plain"), pytest.param(RICH, id="rich", marks=pytest.mark.slow)],
)
def setting(
    request: pytest.FixtureRequest,
    cases: tuple[Case, ...],
    pixels: NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainConfig, State]:
    """A configuration, and the last state of a run that nothing stopped."""
    config = configure({**request.param, "save_minutes": 1e-9})
    folder = tmp_path_factory.mktemp("whole")
    train(make_run(cases, pixels, config), folder)
    return config, last(folder)
