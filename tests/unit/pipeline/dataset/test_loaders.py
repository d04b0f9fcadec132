import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import make_case

from pneumoseg.pipeline.dataset.cases import CachedCases, PhasedCases
from pneumoseg.pipeline.dataset.loaders import loader_workers, make_training_loader, make_validation_loader
from pneumoseg.pipeline.dataset.sampling import BatchPlan, DrawPlan
from pneumoseg.transforms.augmentation import DEFAULT_AUGMENTATIONS
from pneumoseg.transforms.augmenter import Augmenter

CPU = torch.device("cpu")
CASES = [make_case(number, shape=(16, 16), area_px=int(number < 3)) for number in range(10)]
PLAN = DrawPlan(positive=[True] * 3 + [False] * 7, positive_rate=0.5, batch_size=2, seed=0)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (10, 2, 16, 16), dtype=np.uint8)


def at_one_size(pixels: NDArray[np.uint8]) -> PhasedCases:
    return PhasedCases(
        [CachedCases(pixels, CASES, range(10), Augmenter(DEFAULT_AUGMENTATIONS, image_size=16))]
    )


def test_training_batches_are_those_of_the_plan(pixels: NDArray[np.uint8]) -> None:
    loader = make_training_loader(at_one_size(pixels), BatchPlan(PLAN, phases=[0, 0]), workers=0, device=CPU)
    batches = list(loader)
    assert len(batches) == len(loader) == 10
    expected = np.concatenate([PLAN.epoch(0), PLAN.epoch(1)])
    np.testing.assert_array_equal([batch["index"].tolist() for batch in batches], expected)
    assert batches[0]["image"].shape == batches[0]["label"].shape == (2, 1, 16, 16)


def test_a_training_batch_says_which_images_show_a_pneumothorax(pixels: NDArray[np.uint8]) -> None:
    loader = make_training_loader(at_one_size(pixels), BatchPlan(PLAN, phases=[0]), workers=0, device=CPU)
    for batch in loader:
        assert batch["positive"].dtype == torch.float32
        assert batch["positive"].tolist() == [float(index < 3) for index in batch["index"].tolist()]


def test_a_run_that_goes_on_sees_the_same_pixels_as_one_that_never_stopped(pixels: NDArray[np.uint8]) -> None:
    def images(first_step: int) -> list[NDArray[np.float32]]:
        batches = BatchPlan(PLAN, phases=[0, 0], first_step=first_step)
        loader = make_training_loader(at_one_size(pixels), batches, workers=0, device=CPU)
        return [np.asarray(batch["image"]) for batch in loader]

    np.testing.assert_array_equal(images(3), images(0)[3:])


def test_one_loader_gives_the_images_of_each_phase_in_its_size(pixels: NDArray[np.uint8]) -> None:
    large = np.repeat(np.repeat(pixels, 2, axis=2), 2, axis=3)
    cases = PhasedCases(
        [
            CachedCases(each, CASES, range(10), Augmenter(DEFAULT_AUGMENTATIONS, image_size=size))
            for each, size in ((pixels, 16), (large, 32))
        ]
    )
    loader = make_training_loader(cases, BatchPlan(PLAN, phases=[0, 1]), workers=0, device=CPU)
    assert [batch["image"].shape[-1] for batch in loader] == [16] * 5 + [32] * 5


def test_two_processes_see_the_pixels_that_one_would_see(pixels: NDArray[np.uint8]) -> None:
    def batches(*shard: int) -> list[NDArray[np.float32]]:
        rank, processes = shard
        plan = BatchPlan(PLAN, phases=[0], shard=(rank, processes))
        loader = make_training_loader(at_one_size(pixels), plan, workers=0, device=CPU)
        return [np.asarray(batch["image"]) for batch in loader]

    for whole, first, second in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_validation_sees_each_case_once_in_order(pixels: NDArray[np.uint8]) -> None:
    loader = make_validation_loader(CachedCases(pixels, CASES, [7, 2, 5]), batch_size=2, pin_memory=False)
    assert [index for batch in loader for index in batch["index"].tolist()] == [7, 2, 5]


def test_a_validation_batch_counts_the_pixels_inside_the_padding(pixels: NDArray[np.uint8]) -> None:
    cases = [make_case(0, shape=(64, 32)), make_case(1, shape=(10, 10))]
    (batch,) = make_validation_loader(CachedCases(pixels, cases, [0, 1]), batch_size=2, pin_memory=False)
    assert batch["content"].sum(dim=(1, 2, 3)).tolist() == [16 * 8, 16 * 16]


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers"),
    [("cpu", 64, 1, 0), ("cuda", 64, 1, 2), ("cuda", 2, 1, 1), ("cuda", 1, 1, 0), ("cuda", 8, 4, 1)],
)
def test_loader_processes_are_for_a_gpu_and_leave_a_core_to_each_process_of_the_run(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert loader_workers(torch.device(device)) == workers
