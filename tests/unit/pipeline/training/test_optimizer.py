import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.pipeline.training.runs import ENCODER, configure, make_run

from pneumoseg.pipeline.dataset.manifest import Case


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_encoder_learns_at_its_share_of_the_rate(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], optimizer: str, schedule: str
) -> None:
    run = make_run(
        cases,
        pixels,
        configure({"network": ENCODER["network"]}, encoder_rate=0.25, optimizer=optimizer, schedule=schedule),
    )
    main, encoder = run.optimizer.param_groups  # the first one's rate is logged
    assert {id(each) for each in encoder["params"]} == {id(each) for each in run.encoder_parameters}
    assert len(main["params"]) + len(encoder["params"]) == len(list(run.network.parameters()))
    assert main["weight_decay"] == encoder["weight_decay"] > 0
    for _ in range(3):
        assert encoder["lr"] == pytest.approx(0.25 * main["lr"])
        run.schedule.after_step()
