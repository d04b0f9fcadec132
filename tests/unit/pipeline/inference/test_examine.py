from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHAPE, Collection, bright_pixel_network, draw_case, write_model
from tests.unit.pipeline.inference.networks import CPU, count_runs, member

from pneumoseg.pipeline.inference.examine import PASSES, examine_files
from pneumoseg.pipeline.inference.model import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.reasons import Reason


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, CPU)


@pytest.fixture(scope="module")
def paths(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A positive, a file that is no radiograph, a negative."""
    damaged = tmp_path_factory.mktemp("damaged") / "bad.dcm"
    damaged.write_bytes(b"no radiograph")
    return [collection.images / "case02.dcm", damaged, collection.images / "case08.dcm"]


def examine(model: Model, paths: Sequence[Path]) -> list[Segmentation | NotRead]:
    return list(examine_files(model, paths, acceptance=AcceptanceFilters(), workers=0))


@pytest.fixture(scope="module")
def results(model: Model, paths: Sequence[Path]) -> list[Segmentation | NotRead]:
    return examine(model, paths)


@pytest.fixture(scope="module")
def first(results: list[Segmentation | NotRead]) -> Segmentation:
    found = results[0]
    assert isinstance(found, Segmentation)
    return found


def test_each_file_gives_one_result_in_their_order(
    results: list[Segmentation | NotRead], paths: Sequence[Path]
) -> None:
    assert [each.path for each in results] == list(paths)


def test_a_file_that_cannot_be_used_gives_its_reason(results: list[Segmentation | NotRead]) -> None:
    assert isinstance(results[1], NotRead)
    assert results[1].error.reason == Reason.NOT_DICOM


def test_the_result_is_that_of_segmenting(model: Model, paths: Sequence[Path], first: Segmentation) -> None:
    (plain,) = segment_files(model, paths[:1], workers=0)
    assert isinstance(plain, Segmentation)
    assert first.probability == plain.probability
    np.testing.assert_array_equal(first.mask, plain.mask)


def test_the_block_of_the_case_is_found(first: Segmentation) -> None:
    np.testing.assert_array_equal(first.mask, draw_case(2, positive=True)[1])


def test_there_is_a_map_of_the_size_of_the_original_for_each_of_the_four_gates(first: Segmentation) -> None:
    assert first.attention is not None
    assert first.pixel_std is not None
    assert len(first.attention) == 4
    assert {each.shape for each in (*first.attention, first.pixel_std)} == {SHAPE}


def test_the_standard_deviation_is_that_of_samples_with_dropout(model: Model, first: Segmentation) -> None:
    """By numpy, of the passes as torch makes them; the image lies in the middle of the network's square."""
    image = inference_chain(image_size=SHAPE[0])({"image": first.radiograph})["image"][None]
    (network,) = model.networks
    dropouts = [part for part in network.modules() if isinstance(part, torch.nn.Dropout)]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for part in dropouts:
            part.train()
        passes = [torch.sigmoid(network(image))[0, 0].numpy() for _ in range(PASSES)]
        for part in dropouts:
            part.eval()
    left = (SHAPE[0] - SHAPE[1]) // 2
    expected = np.std(passes, axis=0, ddof=1)[:, left : left + SHAPE[1]]
    assert first.pixel_std is not None
    assert expected.max() > 0.1
    np.testing.assert_allclose(first.pixel_std, expected, atol=1e-5)


def test_a_network_without_dropout_has_no_standard_deviation(model: Model, paths: Sequence[Path]) -> None:
    (found,) = examine(replace(model, networks=(member(dropout=0.0),)), paths[:1])
    assert isinstance(found, Segmentation)
    assert found.pixel_std is None


def test_each_file_costs_one_pass_and_its_samples(paths: Sequence[Path], tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path, bright_pixel_network()), CPU)
    runs = count_runs(model.networks[0])
    examine(model, paths)
    assert runs == [1] * 2 * (1 + PASSES)


def test_dropout_is_off_again_afterwards(model: Model, results: list[Segmentation | NotRead]) -> None:
    assert results
    assert not any(part.training for part in model.networks[0].modules())


def test_no_files_give_no_results(model: Model) -> None:
    assert examine(model, []) == []
