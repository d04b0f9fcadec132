import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Collection, bright_pixel_network, draw_case, write_model, write_radiograph
from tests.unit.pipeline.jobs.evaluations import evaluate, gallery

from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.dataset.manifest import manifest_sha256
from pneumoseg.pipeline.jobs.evaluate import evaluate_model
from pneumoseg.pipeline.jobs.prepare import prepare_manifest
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import Member, read_description


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are thought out, but not written, but for what a fixture of the whole module does."""
    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.to_svg", lambda *_, name: f"<svg>{name}</svg>")


@pytest.fixture(scope="module")
def ensemble(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for each fold; that of fold 2 calls nothing positive, the others find every block."""
    folder = tmp_path_factory.mktemp("ensemble") / "model"
    sha256 = manifest_sha256(collection.manifest)
    members: list[Member] = []
    for fold in range(3):
        network = bright_pixel_network()
        if fold == 2:
            with torch.no_grad():
                network.head.weight.zero_()
        write_model(folder, network, fold=fold, manifest_sha256=sha256)
        members += read_description(folder).members
    save_description(folder, read_description(folder).model_copy(update={"members": tuple(members)}))
    return folder


@pytest.fixture(scope="module")
def evaluated(ensemble: Path, collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an evaluation of all folds leaves, each case scored by the network that held it out."""
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(ensemble, collection, folder, examples=2)
    return folder / "out"


def test_an_evaluation_leaves_its_report_and_what_it_is_made_of(evaluated: Path) -> None:
    names = {path.name for path in evaluated.iterdir() if not path.name.startswith(".")}
    assert names == {
        "cases.csv", "score_surface.json", "gallery", "report.html", "scores.json", "subgroups.csv",
    }  # fmt: skip


def test_every_threshold_and_minimum_area_has_its_scores(evaluated: Path) -> None:
    found = json.loads((evaluated / "score_surface.json").read_text())
    assert (len(found["thresholds"]), len(found["min_area_fractions"])) == (256, 19)
    for name in ("dice", "sensitivity", "specificity"):
        assert {len(row) for row in found[name]} == {256}
        assert len(found[name]) == 19


def test_the_score_of_the_decision_in_use_is_among_them(evaluated: Path) -> None:
    scores = json.loads((evaluated / "scores.json").read_text())
    found = json.loads((evaluated / "score_surface.json").read_text())
    column = found["thresholds"].index(scores["threshold"])
    row = found["min_area_fractions"].index(scores["min_area_fraction"])
    for name in ("dice", "sensitivity", "specificity"):
        expected = (scores["in_sample"] or scores["scores"])[name]["value"]
        assert found[name][row][column] == pytest.approx(expected, abs=1e-6)


def test_a_sensitivity_that_there_is_not_is_null(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    """The first six cases are positive, so a manifest of the others has none."""
    manifest = json.loads(collection.manifest_path.read_text())
    manifest["training"] = [case for case in manifest["training"] if not case["label"]]
    manifest["size"] = len(manifest["training"])
    path = collection.folder / "negative.json"
    path.write_text(json.dumps(manifest))
    evaluate_model(model_folder, path, tmp_path / "out", runtime=Runtime(device="cpu", workers=0), examples=0)
    path.unlink()
    found = json.loads((tmp_path / "out" / "score_surface.json").read_text())
    assert {value for row in found["sensitivity"] for value in row} == {None}
    assert found["specificity"][0][255] == 1.0


def test_examples_are_shown_as_the_network_saw_them_that_held_them_out(evaluated: Path) -> None:
    """Only the network of fold 2 misses, and it does so on its own fold: what is missed is of that fold."""
    with (evaluated / "cases.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    held_out = [name for name, row in rows.items() if row["fold"] == "2" and row["positive"] == "1"]
    shown = gallery(evaluated)
    missed = [case["name"] for case in shown if case["kind"] == "missed"]
    assert sorted(missed) == sorted(held_out)
    for case in shown:
        prediction = next(panel["file"] for panel in case["panels"] if panel["name"] == "prediction")
        with Image.open(evaluated / "gallery" / prediction) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        tinted = (pixels[..., 0] - pixels[..., 2]).max() > 60  # the outline of a mask is orange
        assert tinted == (case["name"] not in held_out)


def test_each_example_has_its_panels_and_its_numbers(evaluated: Path) -> None:
    for case in gallery(evaluated):
        names = [panel["name"].partition(", 0")[0] for panel in case["panels"]]
        assert names == [
            "radiograph", "truth", "prediction", "probability", "uncertainty",
            *(f"attention, gate{level}" for level in (4, 3, 2, 1)),
        ]  # fmt: skip
        assert {"Dice", "image probability", "truth", "mask", "view", "sex", "age"} == set(case["facts"])


def test_the_report_holds_every_picture_of_the_gallery(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert page.count("<img src=") == len(list((evaluated / "gallery").glob("*.jpg"))) > 0


def test_without_examples_no_picture_is_made(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    evaluate(model_folder, collection, tmp_path, fold=0, examples=0)
    assert [path.name for path in (tmp_path / "out" / "gallery").iterdir()] == ["gallery.json"]
    assert "<img" not in (tmp_path / "out" / "report.html").read_text()


def test_an_image_with_text_in_it_is_shown_without_a_picture(
    model_folder: Path, collection: Collection, tmp_path: Path
) -> None:
    """The text may be a name."""
    images = tmp_path / "images"
    for number in (0, 1, 6):
        pixels, _ = draw_case(number, positive=number < 6)
        elements = {"SOPInstanceUID": f"1.2.{number}", "PatientID": f"id{number}"}
        if number == 0:
            elements["BurnedInAnnotation"] = "YES"
        write_radiograph(images / f"case{number:02}.dcm", pixels, **elements)
    manifest = tmp_path / "manifest.json"
    prepare_manifest(images, [collection.labels], manifest, folds=2, label_shape=(48, 32), workers=0)
    evaluate_model(
        model_folder, manifest, tmp_path / "out", runtime=Runtime(device="cpu", workers=0), all_folds=True
    )
    shown = {case["name"]: case for case in gallery(tmp_path / "out")}
    assert shown["case00"]["panels"] == []
    assert shown["case00"]["facts"]["no picture"] == "text is burned into the image"
    assert len(shown["case01"]["panels"]) == 9
