from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.pipeline.training.runs import ENCODER, SIDE, configure, encoder_state, make_run, same, train

from pneumoseg.pipeline.dataset.manifest import Case


def test_training_sees_crops_and_validation_whole_images(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    config = configure({"data": {"crop": 16, "stages": [{"image_size": 16, "epochs": 1}]}}, epochs=1)
    run = make_run(cases, pixels, config)
    for batch in run.make_batches(run.plan.steps):  # those of the final phase
        assert batch["image"].shape[-2:] == batch["label"].shape[-2:] == (16, 16)
        shown = (batch["label"] > 0.5 / 255).flatten(1).any(dim=1)
        assert batch["positive"].tolist() == shown.float().tolist()
    assert next(iter(run.validation_loaders[-1]))["image"].shape[-2:] == (SIDE, SIDE)


@pytest.mark.slow
def test_frozen_statistics_of_an_encoder_outlive_a_training(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    for frozen in (True, False):
        changes = {**ENCODER, "optimization": {"freeze_norm": frozen}}
        run = make_run(cases, pixels, configure(changes, epochs=1))
        before = encoder_state(run)
        train(run, tmp_path / str(frozen))
        after = encoder_state(run)
        names = [name for name in before if "running" in name]
        assert all(torch.equal(after[name], before[name]) for name in names) is frozen


def test_a_run_begins_with_the_encoder_that_it_is_given(
    cases: tuple[Case, ...], pixels: NDArray[np.uint8]
) -> None:
    given = {
        name: value + 1 for name, value in encoder_state(make_run(cases, pixels, configure(ENCODER))).items()
    }
    run = make_run(cases, pixels, configure(ENCODER), encoder_weights=given)
    assert same(encoder_state(run), given)
    whole = make_run(cases, pixels, configure(ENCODER)).network.state_dict()
    assert same(dict(run.network.head.state_dict()), {k: whole[f"head.{k}"] for k in ("weight", "bias")})
