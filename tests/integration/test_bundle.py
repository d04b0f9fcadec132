"""A model as a MONAI Bundle: MONAI's own programs run and check it."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out
from PIL import Image
from tests.conftest import Collection, bright_pixel_network, write_model

from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.inference.segmentation import load_predictor
from pneumoseg.pipeline.jobs.export import export_model
from pneumoseg.pipeline.model.description import TunedPoint

SCHEMA = Path(__file__).with_name("bundle_schema.json")
"""Written from the MONAI Bundle Specification; MONAI's own copy is on the internet only."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:parsing config_file:UserWarning"
    ),  # configurations of a bundle are code
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that needs both thresholds and the image probability."""
    point = TunedPoint(threshold=0.75, min_area_fraction=0.01, segmentation_threshold=0.5)
    return write_model(tmp_path_factory.mktemp("model") / "model", bright_pixel_network(), point=point)


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (exported,) = export_model(model, folder, ["bundle"], tta=("flip",))
    return exported.path


def workflow(bundle: Path, *configs: str, kind: str, **values: Any) -> ConfigWorkflow:
    files = [str(bundle / "configs" / f"{name}.json") for name in configs]
    return ConfigWorkflow(
        files,
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(bundle),
        device=torch.device("cpu"),
        **values,
    )


def test_the_command_of_monai_makes_the_masks_of_predict(
    bundle: Path, model: Path, collection: Collection
) -> None:
    (collection.images / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM")
    options = {
        "config_file": "configs/inference.json",
        "meta_file": "configs/metadata.json",
        "logging_file": "configs/logging.conf",
        "dataset_dir": str(collection.images),
        "device": "cpu",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "monai.bundle", "run", *words],
            cwd=bundle, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        (collection.images / "damaged.dcm").unlink()
    assert done.returncode == 0, done.stderr
    assert "damaged.dcm: " in done.stdout
    with (bundle / "eval" / "predictions.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"case{number:02}.dcm" for number in range(12)]
    predictor = load_predictor(model, "cpu", tta=("flip",))
    areas = set()
    for name, row in rows.items():
        expected = predictor.predict(collection.images / name)
        mask = np.asarray(Image.open(bundle / "eval" / "masks" / f"{name}.png"))
        assert (mask == expected.mask * 255).all()
        assert float(row["probability"]) == pytest.approx(expected.probability, abs=1e-6)
        assert int(row["area_px"]) == expected.area_px
        areas.add(expected.area_px > 0)
    assert areas == {True, False}


@pytest.mark.parametrize(
    ("configs", "kind"),
    [(["inference"], "infer"), (["train"], "train"), (["train", "evaluate"], "train")],
)
def test_no_property_of_a_workflow_is_missing(
    bundle: Path, collection: Collection, configs: list[str], kind: str
) -> None:
    folder = collection.images if kind == "infer" else collection.folder
    found = workflow(bundle, *configs, kind=kind, dataset_dir=str(folder))
    found.initialize()
    assert found.check_properties() == []


def test_metadata_and_network_pass_the_checks_of_monai(bundle: Path) -> None:
    metadata = str(bundle / "configs" / "metadata.json")
    verify_metadata(metadata, filepath=SCHEMA, hash_val=sha256_of(SCHEMA), hash_type="sha256")
    verify_net_in_out("network_def", metadata, str(bundle / "configs" / "inference.json"), device="cpu")


def test_evaluation_scores_the_bundle_by_the_metric_of_the_challenge(
    bundle: Path, model: Path, collection: Collection
) -> None:
    evaluation = workflow(
        bundle, "train", "evaluate", kind="train", dataset_dir=str(collection.folder), fold=1
    )
    evaluation.initialize()
    evaluation.run()
    predictor = load_predictor(model, "cpu", tta=("flip",))
    scores = []
    for case in collection.manifest.training:
        if case.fold == 1:
            mask = predictor.predict(collection.folder / case.image).mask
            overlap = case.area_px * bool(mask.any())  # the model finds blocks to the pixel, or nothing
            scores.append(
                1.0 if not mask.any() and not case.area_px else 2 * overlap / (mask.sum() + case.area_px)
            )
    assert evaluation.evaluator.state.metrics["val_dice"] == pytest.approx(np.mean(scores))


def test_a_program_with_images_of_its_own_gets_masks_and_keeps_its_items(
    bundle: Path, model: Path, collection: Collection, tmp_path: Path
) -> None:
    path = collection.images / "case03.dcm"
    found = workflow(bundle, "inference", kind="infer", dataset_dir=str(path), output_dir=str(tmp_path))
    found.initialize()
    sample = found.preprocessing({"image": str(path), "model_filename": "model.pt"})  # as MONAI Label does
    network = found.network_def.eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt"))
    with torch.no_grad():
        sample["pred"] = network(sample["image"][None])[0]
    result = found.postprocessing(sample)
    expected = load_predictor(model, "cpu", tta=("flip",)).predict(path)
    assert (result["pred"][0].numpy() == expected.mask).all()
    assert result["model_filename"] == "model.pt"
    assert list(tmp_path.iterdir()) == []


def test_training_starts_from_the_first_network_and_its_result_can_be_used(
    bundle: Path, collection: Collection
) -> None:
    training = workflow(
        bundle, "train", kind="train", dataset_dir=str(collection.folder), epochs=1, learning_rate=0.0
    )  # fmt: skip
    training.initialize()
    training.run()
    before = torch.load(bundle / "models" / "model.pt")
    after = torch.load(bundle / "models" / "trained.pt")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    inference = workflow(
        bundle,
        "inference",
        kind="infer",
        dataset_dir=str(collection.images),
        output_dir=str(bundle / "again"),
        checkpoint=str(bundle / "models" / "trained.pt"),
        members=1,
    )
    inference.initialize()
    inference.run()
    assert (bundle / "again" / "predictions.csv").is_file()
