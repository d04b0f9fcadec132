"""A training that starts from a model knows which images that model has seen."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.model.description import read_description

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(epochs=1),
    precision="float32",
)


@pytest.fixture(scope="module")
def first(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that held fold 0 out."""
    run = tmp_path_factory.mktemp("first") / "run"
    return train_model(collection.manifest_path, run, fold=0, config=CONFIG, device="cpu", report=False).model


@pytest.fixture(scope="module")
def crossed(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a network for each fold."""
    run = tmp_path_factory.mktemp("crossed") / "run"
    return cross_validate(collection.manifest_path, run, config=CONFIG, device="cpu", report=False).model


def digests(collection: Collection, *folds: int) -> set[str]:
    return {case.sha256[:16] for case in collection.manifest.training if case.fold in folds}


def test_a_held_out_fold_that_the_initial_weights_have_seen_is_refused(
    collection: Collection, first: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"4 of the 4 held-out images were seen .*--fold 0\), or give --allow-seen"
    ):
        train_model(
            collection.manifest_path, tmp_path / "run", fold=1, config=CONFIG, device="cpu", initial=first
        )
    assert not (tmp_path / "run").exists()


def test_a_cross_validation_never_deletes_its_initial_weights(collection: Collection, first: Path) -> None:
    with pytest.raises(UsageError, match=r"model lies in .*run, which would be emptied"):
        cross_validate(
            collection.manifest_path,
            first.parent,
            config=CONFIG,
            overwrite=True,
            initial=first,
            allow_seen=True,
        )
    assert first.is_dir()


def test_where_that_is_allowed_every_score_is_marked(
    collection: Collection, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    report = train_model(
        collection.manifest_path, run, fold=1, config=CONFIG, device="cpu", initial=first, allow_seen=True
    )
    assert "4 of the 4 held-out images were seen by the initial weights" in capsys.readouterr().err
    training = read_description(report.model).trained_on
    assert (training.cases, training.initial_images, training.held_out_seen) == (8, 8, 4)
    assert set(training.image_digests) == digests(collection, 0, 1, 2)
    assert "4 of the 4 held-out images" in (report.model / "MODEL_CARD.md").read_text()
    assert json.loads((run / "summary.json").read_text())["held_out_seen"] == 4
    assert json.loads((run / "evaluation" / "scores.json").read_text())["trained_on"] == 4


def test_what_the_initial_weights_have_seen_outlives_a_resumption(
    collection: Collection, first: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"fold": 1, "config": CONFIG, "device": "cpu", "report": False}
    run = tmp_path / "run"
    train_model(collection.manifest_path, run, initial=first, allow_seen=True, **options)
    before = (run / "model" / "model.json").read_bytes()
    train_model(collection.manifest_path, run, resume=True, **options)
    assert (run / "model" / "model.json").read_bytes() == before


def test_the_fold_that_the_initial_weights_held_out_can_be_held_out_again(
    collection: Collection, first: Path, tmp_path: Path
) -> None:
    model = train_model(
        collection.manifest_path, tmp_path / "run", fold=0, config=CONFIG, device="cpu", initial=first
    ).model
    training = read_description(model).trained_on
    assert (training.initial_images, training.held_out_seen) == (8, 0)
    assert set(training.image_digests) == digests(collection, 1, 2)


def test_of_a_cross_validation_the_network_that_held_the_fold_out_is_taken(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_model(
        collection.manifest_path, run, fold=2, config=CONFIG, device="cpu", initial=crossed, report=False
    )
    summary = json.loads((run / "summary.json").read_text())
    assert summary["initial_weights_sha256"] == sha256_of(crossed / "weights" / "fold2.safetensors")
    assert summary["held_out_seen"] == 0


def test_a_cross_validation_from_weights_that_have_seen_its_folds_is_refused_before_it_starts(
    collection: Collection, first: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"8 of the 12 held-out images were seen .*--allow-seen"):
        cross_validate(collection.manifest_path, tmp_path / "run", config=CONFIG, device="cpu", initial=first)
    assert not (tmp_path / "run").exists()


def test_a_cross_validation_carries_on_what_its_initial_weights_have_seen(
    collection: Collection, first: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    model = cross_validate(
        collection.manifest_path,
        run,
        config=CONFIG,
        device="cpu",
        initial=first,
        allow_seen=True,
        report=False,
    ).model
    description = read_description(model)
    assert set(description.trained_on.image_digests) == digests(collection, 0, 1, 2)
    assert (description.trained_on.initial_images, description.trained_on.held_out_seen) == (8, 8)
    assert json.loads((run / "summary.json").read_text())["held_out_seen"] == 8
    # fold 0 alone was held out by the initial weights, too
    report = evaluate_model(
        model, collection.manifest_path, tmp_path / "out", runtime=Runtime(device="cpu"), examples=0
    )
    assert report.trained_on == 8


def test_each_member_of_a_cross_validation_has_not_seen_the_fold_it_held_out(
    collection: Collection, crossed: Path
) -> None:
    description = read_description(crossed)
    assert set(description.trained_on.image_digests) == digests(collection, 0, 1, 2)
    for fold, member in enumerate(description.members):
        assert set(member.unseen_digests) == digests(collection, fold)
