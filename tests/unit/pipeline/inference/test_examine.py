from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHAPE, Collection, draw_case

from pneumoseg.pipeline.devices import Precision, resolve_precision
from pneumoseg.pipeline.inference.examine import PASSES, Examined, examine_files
from pneumoseg.pipeline.inference.model_folder import Model, load_model
from pneumoseg.pipeline.inference.segment import NotRead, Segmented, attention_maps, segment_files
from pneumoseg.transforms.chains import inference_chain
from pneumoseg.transforms.gates import Gates
from pneumoseg.transforms.reasons import Reason

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def precision() -> Precision:
    return resolve_precision("float32", CPU)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, CPU)


@pytest.fixture(scope="module")
def paths(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A positive, a file that is none, a negative."""
    damaged = tmp_path_factory.mktemp("damaged") / "bad.dcm"
    damaged.write_bytes(b"no radiograph")
    return [collection.images / "case02.dcm", damaged, collection.images / "case08.dcm"]


@pytest.fixture(scope="module")
def looked(model: Model, paths: Sequence[Path], precision: Precision) -> list[Examined | NotRead]:
    return list(examine_files(model, paths, precision=precision, gates=Gates(), workers=0))


@pytest.fixture(scope="module")
def examined(looked: list[Examined | NotRead]) -> Examined:
    first = looked[0]
    assert isinstance(first, Examined)
    return first


def test_each_file_gives_one_answer_in_their_order(
    looked: list[Examined | NotRead], paths: Sequence[Path]
) -> None:
    found = [each.result.path if isinstance(each, Examined) else each.path for each in looked]
    assert found == list(paths)


def test_a_file_that_cannot_be_used_gives_its_reason(looked: list[Examined | NotRead]) -> None:
    assert isinstance(looked[1], NotRead)
    assert looked[1].error.reason == Reason.NOT_DICOM


def test_the_result_is_that_of_segmenting(
    model: Model, paths: Sequence[Path], precision: Precision, examined: Examined
) -> None:
    (plain,) = segment_files(model, paths[:1], precision=precision, workers=0)
    assert isinstance(plain, Segmented)
    assert examined.result.probability == plain.probability
    np.testing.assert_array_equal(examined.result.mask, plain.mask)


def test_the_block_of_the_case_is_found(examined: Examined) -> None:
    np.testing.assert_array_equal(examined.result.mask, draw_case(2, positive=True)[1])


def test_all_maps_are_of_the_size_of_the_original(examined: Examined) -> None:
    assert examined.uncertainty is not None
    assert {each.shape for each in (*examined.attention, examined.uncertainty)} == {SHAPE}


def test_there_is_a_map_for_each_of_the_four_gates(
    model: Model, paths: Sequence[Path], precision: Precision, examined: Examined
) -> None:
    expected = attention_maps(model, paths[0], precision=precision)
    assert len(examined.attention) == 4
    for found, wanted in zip(examined.attention, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_uncertainty_is_the_standard_deviation_of_passes_with_dropout(
    model: Model, examined: Examined
) -> None:
    """By numpy, of the passes as torch makes them; the network sees a square with the image in its middle."""
    image = inference_chain(image_size=SHAPE[0])({"image": examined.result.radiograph})["image"][None]
    dropouts = [part for part in model.network.modules() if isinstance(part, torch.nn.Dropout)]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for part in dropouts:
            part.train()
        passes = [torch.sigmoid(model.network(image))[0, 0].numpy() for _ in range(PASSES)]
        for part in dropouts:
            part.eval()
    left = (SHAPE[0] - SHAPE[1]) // 2
    expected = np.std(passes, axis=0, ddof=1)[:, left : left + SHAPE[1]]
    assert examined.uncertainty is not None
    assert expected.max() > 0.1
    np.testing.assert_allclose(examined.uncertainty, expected, atol=1e-5)


def test_a_network_without_dropout_is_as_sure_as_it_says(
    model: Model, paths: Sequence[Path], precision: Precision
) -> None:
    network = load_model(model.folder, CPU).network
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    (found,) = examine_files(
        replace(model, networks=(network,)), paths[:1], precision=precision, gates=Gates(), workers=0
    )
    assert isinstance(found, Examined)
    assert found.uncertainty is None


def test_dropout_is_off_again_afterwards(model: Model, looked: list[Examined | NotRead]) -> None:
    assert looked
    assert not any(part.training for part in model.network.modules())


def test_of_no_file_there_is_nothing_to_say(model: Model, precision: Precision) -> None:
    assert list(examine_files(model, [], precision=precision, gates=Gates(), workers=0)) == []
