import numpy as np
import pytest
from numpy.typing import NDArray

from pneumoseg.pipeline.dataset.cases import CachedCases
from pneumoseg.pipeline.dataset.loaders import make_training_loader, make_validation_loader
from pneumoseg.pipeline.dataset.sampling import BatchPlan, DrawPlan
from pneumoseg.transforms.chains import training_chain

PLAN = DrawPlan(positive=[True] * 3 + [False] * 7, positive_rate=0.5, batch_size=2, seed=0)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (10, 2, 16, 16), dtype=np.uint8)


def test_training_batches_are_those_of_the_plan(pixels: NDArray[np.uint8]) -> None:
    cases = CachedCases(pixels, range(10), training_chain(image_size=16))
    loader = make_training_loader(cases, BatchPlan(PLAN, epochs=2), workers=0, pin_memory=False)
    batches = list(loader)
    assert len(batches) == len(loader) == 10
    expected = np.concatenate([PLAN.epoch(0), PLAN.epoch(1)])
    np.testing.assert_array_equal([batch["index"].tolist() for batch in batches], expected)
    assert batches[0]["image"].shape == batches[0]["label"].shape == (2, 1, 16, 16)


def test_a_run_that_goes_on_sees_the_same_pixels_as_one_that_never_stopped(pixels: NDArray[np.uint8]) -> None:
    def images(first_step: int) -> list[NDArray[np.float32]]:
        cases = CachedCases(pixels, range(10), training_chain(image_size=16))
        batches = BatchPlan(PLAN, epochs=2, first_step=first_step)
        loader = make_training_loader(cases, batches, workers=0, pin_memory=False)
        return [np.asarray(batch["image"]) for batch in loader]

    np.testing.assert_array_equal(images(3), images(0)[3:])


def test_validation_sees_each_case_once_in_order(pixels: NDArray[np.uint8]) -> None:
    loader = make_validation_loader(CachedCases(pixels, [7, 2, 5]), batch_size=2, pin_memory=False)
    assert [index for batch in loader for index in batch["index"].tolist()] == [7, 2, 5]
