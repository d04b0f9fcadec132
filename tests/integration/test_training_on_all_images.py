"""A network trained on the images of all folds, after a cross-validation of the same configuration."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Collection

from pneumoseg.pipeline.core.config import DataConfig, OptimizationConfig, TrainConfig
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.jobs.cross_validate import cross_validate
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.quantize import quantize_model
from pneumoseg.pipeline.jobs.train import train_model
from pneumoseg.pipeline.jobs.tune import tune_model
from pneumoseg.pipeline.model.description import ModelDescription, read_description
from pneumoseg.pipeline.training.averaging import average_weights

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    network=TINY,
    data=DataConfig(image_size=32, batch_size=4),
    optimization=OptimizationConfig(
        epochs=3, learning_rate=0.01, patience=1, keep="last", average="top", average_top=2
    ),
    precision="float32",
)


@pytest.fixture(scope="module")
def crossed(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation that keeps the last epochs."""
    folder = tmp_path_factory.mktemp("crossed") / "run"
    cross_validate(collection.manifest_path, folder, config=CONFIG, device="cpu")
    return folder


@pytest.fixture(scope="module")
def final(crossed: Path) -> Path:
    """The folder of a run on all images after it."""
    folder = crossed.parent / "final"
    report = train_model(None, folder, after=crossed, device="cpu")
    assert (report.fold, report.validation, report.evaluation) == (None, None, None)
    return folder


def described(run: Path) -> ModelDescription:
    return read_description(run / "model")


def test_all_images_are_trained_on_and_points_and_scores_are_those_of_the_cross_validation(
    collection: Collection, crossed: Path, final: Path
) -> None:
    before, model = described(crossed), described(final)
    assert model.trained_on.cases == len(collection.manifest.training) == 12
    assert len(model.trained_on.image_digests) == 12
    assert model.held_out_folds == ()
    for name in ("operating_point", "operating_point_search", "validation", "network", "tta"):
        assert getattr(model, name) == getattr(before, name), name
    assert json.loads((final / "summary.json").read_text())["fold"] is None


def test_the_last_epochs_are_averaged_whatever_they_score(crossed: Path, final: Path) -> None:
    for run in (crossed / "fold0", final):
        kept = [torch.load(run / "checkpoints" / name)["network"] for name in epochs_of(run, 2, 3)]
        network = load_model(run / "model", CPU).networks[0].state_dict()
        for name, value in average_weights(kept[::-1]).items():
            torch.testing.assert_close(network[name], value, rtol=1e-6, atol=1e-7)
        with (run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3  # no patience ends it
        assert bool(rows[0]["dice"]) is (run != final)
    assert not described(crossed).trained_on.epoch_chosen


def epochs_of(run: Path, *epochs: int) -> list[str]:
    return [path.name for epoch in epochs for path in (run / "checkpoints").glob(f"epoch{epoch:04d}-*.pt")]


def test_scores_that_are_not_valid_stay_marked(collection: Collection, final: Path, tmp_path: Path) -> None:
    cross_validate(
        collection.manifest_path,
        tmp_path / "crossed",
        config=CONFIG,
        device="cpu",
        initial=final / "model",
        allow_seen=True,
        report=False,
    )
    train_model(None, tmp_path / "run", after=tmp_path / "crossed", device="cpu")
    assert described(tmp_path / "run").trained_on.held_out_seen == 12
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["held_out_seen"] == 12
    card = (tmp_path / "run" / "model" / "MODEL_CARD.md").read_text()
    assert "12 of the 12 held-out images were used to train the initial weights" in card


def test_a_cross_validation_that_was_made_longer(crossed: Path, tmp_path: Path) -> None:
    """Neither the model nor the evaluation of the shorter one is taken for those of the longer one."""
    longer = tmp_path / "crossed"
    shutil.copytree(crossed, longer)
    config = (longer / "config.yaml").read_text()
    (longer / "config.yaml").write_text(config.replace("epochs: 3", "epochs: 4"))  # as one that is under way
    with pytest.raises(UsageError, match="has no model yet; `pneumoseg train --resume"):
        train_model(None, tmp_path / "no", after=longer)
    cross_validate(None, longer, resume=True, device="cpu", report=False)
    train_model(None, tmp_path / "run", after=longer, device="cpu")
    assert described(tmp_path / "run").operating_point == described(longer).operating_point
    cards = [(run / "model" / "MODEL_CARD.md").read_text() for run in (longer, tmp_path / "run", crossed)]
    assert [card.count("95 % interval") for card in cards] == [0, 0, 1]


def test_a_run_never_deletes_the_cross_validation_that_it_comes_after(crossed: Path, tmp_path: Path) -> None:
    shutil.copytree(crossed, tmp_path / "crossed")
    with pytest.raises(UsageError, match=r"crossed lies in .*crossed, which would be emptied"):
        train_model(None, tmp_path / "crossed", after=tmp_path / "crossed", overwrite=True)
    assert (tmp_path / "crossed" / "model").is_dir()


def test_its_card_has_the_scores_of_the_cross_validation_and_says_so(crossed: Path, final: Path) -> None:
    card, before = ((run / "model" / "MODEL_CARD.md").read_text() for run in (final, crossed))
    assert (
        "no image was held out. The operating points and the scores below are those of a cross-valid" in card
    )
    assert "The epoch was chosen" not in card
    assert card.partition("## Scores")[2] == before.partition("## Scores")[2] != ""
    assert "on all images" in (final / "report.html").read_text()


def test_its_storage_can_change_and_nothing_else(collection: Collection, final: Path, tmp_path: Path) -> None:
    manifest, model = collection.manifest_path, final / "model"
    report = tune_model(model, manifest, tmp_path / "half", half=True)
    assert (report.scores, report.members) == (None, 1)
    half, exact = read_description(report.model), described(final)
    assert half.model_copy(update={"members": exact.members}) == exact
    assert half.members[0].weights == "weights/all.safetensors"
    card = (report.model / "MODEL_CARD.md").read_text()
    assert card == (model / "MODEL_CARD.md").read_text()
    with pytest.raises(UsageError, match="none is left to tune it on"):
        tune_model(model, manifest, tmp_path / "no", tta=["flip"])
    with pytest.raises(UsageError, match="one of the models was trained on all images"):
        tune_model(final.parent / "run" / "fold0" / "model", manifest, tmp_path / "no", added=[model])
    with pytest.raises(UsageError, match="none is left to measure what int8 costs"):
        quantize_model(model, manifest)


def test_its_scores_on_the_images_of_its_training_are_marked(
    collection: Collection, final: Path, tmp_path: Path
) -> None:
    report = evaluate_model(
        final / "model", collection.manifest_path, tmp_path / "out", runtime=Runtime(device="cpu"), card=True
    )
    assert (report.fold, report.trained_on, report.operating_point) == (None, 12, "in-sample")


def test_a_resumed_run_needs_its_folder_alone(crossed: Path, final: Path, tmp_path: Path) -> None:
    shutil.copytree(final, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    train_model(None, tmp_path / "run", resume=True, device="cpu")
    assert described(tmp_path / "run").members == described(final).members
    with pytest.raises(UsageError, match=r"--after is .*run in .* and .*fold0 was requested"):
        train_model(None, tmp_path / "run", resume=True, after=crossed / "fold0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 1}, "leave out --fold and --init"),
        ({"config": CONFIG.model_copy(update={"seed": 5})}, r"seed is 0 in .*run and 5 was requested"),
    ],
)
def test_what_would_differ_from_the_cross_validation_is_refused(
    crossed: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train_model(None, tmp_path / "no", after=crossed, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "no").exists()


def test_only_a_finished_cross_validation_of_the_last_epochs_will_do(
    collection: Collection, crossed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is no cross-validation, as its fold is 0"):
        train_model(None, tmp_path / "no", after=crossed / "fold0")
    for name in ("unfinished", "best"):
        shutil.copytree(crossed, tmp_path / name)
    shutil.rmtree(tmp_path / "unfinished" / "model")
    config = tmp_path / "best" / "config.yaml"
    config.write_text(config.read_text().replace("keep: last", "keep: best"))
    for name, message in (
        ("unfinished", "has no model yet; `pneumoseg train --resume"),
        ("best", "optimization.keep=last"),
    ):
        with pytest.raises(UsageError, match=message):
            train_model(collection.manifest_path, tmp_path / "no", after=tmp_path / name)
