import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import draw_case, job_options, write_radiograph
from tests.unit.pipeline.jobs.predictions import contents, predict

from pneumoseg.pipeline.cli.summaries import predict_summary
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.jobs.predict import PredictReport, predict_folder
from pneumoseg.pipeline.results.planning import Part, content_sha256
from pneumoseg.pipeline.results.processing import process_files
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

pytestmark = pytest.mark.usefixtures("plain_charts", "unjudged")


def put_png(folder: Path, patient: str, *, positive: bool) -> Path:
    """Write a radiograph that is called as that of any other patient."""
    path = folder / patient / "chest.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_case("ABC".index(patient), positive=positive)[0]).save(path)
    return path


def put_dicom(path: Path, *, positive: bool, uid: str = "1.2.77") -> None:
    write_radiograph(path, draw_case(2, positive=positive)[0], SOPInstanceUID=uid)


def decisions(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["image"]: row["decision"] or row["reason"] for row in rows}


# --- a result is that of its file


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_arrives_takes_no_result_of_another_one_of_its_name(
    model_folder: Path, tmp_path: Path, kept: bool
) -> None:
    folder, known = tmp_path / "in", dict[Path, str]() if kept else None
    put_png(folder, "B", positive=True)
    put_png(folder, "C", positive=False)
    before, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    name = rows[0]["name"]
    put_png(folder, "A", positive=False)
    report, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    expected = {"A/chest.png": "negative", "B/chest.png": "positive", "C/chest.png": "negative"}
    assert decisions(rows) == expected
    assert (before.kept, report.kept) == (0, 2)
    assert rows[1]["name"] == name
    with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask) // 255, draw_case(1, positive=True)[1])


@pytest.mark.parametrize("kept", [True, False])
def test_a_duplicate_whose_first_file_has_gone_gets_a_result_of_its_own(
    model_folder: Path, tmp_path: Path, kept: bool
) -> None:
    folder, known = tmp_path / "in", dict[Path, str]() if kept else None
    put_dicom(folder / "a.dcm", positive=False)
    put_dicom(folder / "b.dcm", positive=True)
    _, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    assert decisions(rows) == {"a.dcm": "negative", "b.dcm": "DUPLICATE_UID"}
    (folder / "a.dcm").unlink()
    _, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    assert decisions(rows) == {"b.dcm": "positive"}
    predict(model_folder, folder, tmp_path / "fresh", kinds=["png"])
    assert contents(tmp_path) == contents(tmp_path / "fresh")


def test_a_file_that_becomes_a_duplicate_loses_its_result(model_folder: Path, tmp_path: Path) -> None:
    folder, known = tmp_path / "in", dict[Path, str]()
    put_dicom(folder / "a.dcm", positive=False)
    whole = (folder / "a.dcm").read_bytes()
    (folder / "a.dcm").write_bytes(whole[:-100])
    put_dicom(folder / "b.dcm", positive=True)
    _, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    assert decisions(rows) == {"a.dcm": "TRUNCATED", "b.dcm": "positive"}
    (folder / "a.dcm").write_bytes(whole)
    del known[folder / "a.dcm"]
    _, rows = predict(model_folder, folder, tmp_path, kinds=["png"], known=known)
    assert decisions(rows) == {"a.dcm": "negative", "b.dcm": "DUPLICATE_UID"}


@pytest.mark.parametrize("research", [False, True])
def test_another_image_in_place_of_a_file_gets_no_result_under_its_name(
    model_folder: Path, tmp_path: Path, research: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = tmp_path / "in", {"kinds": ["png"], "research": research}
    put_dicom(folder / "a.dcm", positive=False, uid="1.2.76")
    predict(model_folder, folder, tmp_path, **options)
    put_dicom(folder / "b.dcm", positive=False, uid="1.2.77")

    def process_later(*args: Any, **settings: Any) -> Any:
        put_dicom(folder / "b.dcm", positive=True, uid="1.2.78")  # names are planned by now
        return process_files(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr("pneumoseg.pipeline.jobs.predict.process_files", process_later)
        report, rows = predict(model_folder, folder, tmp_path, **options)
    assert [row["decision"] or row["reason"] for row in rows] == ["negative", "CHANGED"]
    assert report.exit_code == 3
    assert not (tmp_path / "out" / "masks" / "1.2.77.png").exists()
    report, rows = predict(model_folder, folder, tmp_path, **options)
    assert [(row["name"], row["decision"]) for row in rows] == [
        ("1.2.76", "negative"),
        ("1.2.78", "positive"),
    ]
    assert report.exit_code == 0


def part_of(model: Path, folder: Path, output: Path, number: int) -> PredictReport:
    return predict_folder(model, folder, output, **job_options(kinds=["csv"], part=Part(number, 2)))


def swap_contents(folder: Path) -> None:
    put_png(folder, "A", positive=True)
    put_png(folder, "B", positive=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "A" / "chest.png").unlink(),
        lambda folder: (folder / "A").rename(folder / "D"),
        swap_contents,
    ],
)
def test_parts_between_which_files_change_take_no_result_of_another_file(
    model_folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    for patient, positive in (("A", False), ("B", True), ("C", False)):
        put_png(folder, patient, positive=positive)
    part_of(model_folder, folder, output, 0)
    change(folder)
    assert not part_of(model_folder, folder, output, 1).has_tables
    part_of(model_folder, folder, output, 0)
    report = part_of(model_folder, folder, output, 1)
    assert report.has_tables
    _, rows = predict(model_folder, folder, tmp_path / "fresh", kinds=["csv"])
    with (output / "predictions.csv").open(newline="") as file:
        assert decisions(list(csv.DictReader(file))).items() >= decisions(rows).items()


def test_parts_hash_the_files_of_others_only_once_all_are_done(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def hash_and_note(path: Path, max_bytes: int) -> str | None:
        hashed.append(path.name)
        return content_sha256(path, max_bytes)

    monkeypatch.setattr("pneumoseg.pipeline.results.earlier.content_sha256", hash_and_note)
    part_of(model_folder, images, tmp_path / "out", 0)
    assert hashed == []
    part_of(model_folder, images, tmp_path / "out", 1)
    assert hashed == ["case00.dcm", "case06.dcm"]


# --- results of files that are gone


@pytest.mark.parametrize("research", [False, True])
def test_the_result_of_a_file_that_was_moved_away_stays(
    model_folder: Path, images: Path, tmp_path: Path, research: bool
) -> None:
    options: dict[str, Any] = {"kinds": ["json", "png"], "research": research}
    (images / "broken.dcm").write_bytes(b"broken")
    _, before = predict(model_folder, images, tmp_path, **options)
    made = contents(tmp_path)
    for name in ("case00.dcm", "broken.dcm"):
        (images / name).unlink()
    report, rows = predict(model_folder, images, tmp_path, **options)
    assert sorted(map(str, rows)) == sorted(map(str, before))
    assert (report.segmented, report.kept, report.others, report.exit_code) == (3, 3, 2, 0)
    assert "2 earlier results and refusals of other files" in str(predict_summary(report))
    assert {name: made[name] for name in made if "/" in name}.items() <= contents(tmp_path).items()
    statuses = json.loads(contents(tmp_path)["predictions.json"])["statuses"]
    assert statuses == {"segmented": 4, "refused": 1}


def test_overwrite_makes_tables_of_the_files_that_are_there(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["png"])
    (images / "case00.dcm").unlink()
    report, rows = predict(model_folder, images, tmp_path, kinds=["png"], overwrite=True)
    assert (report.others, len(rows)) == (0, 3)
    predict(model_folder, images, tmp_path / "fresh", kinds=["png"])
    assert contents(tmp_path) == contents(tmp_path / "fresh")


def test_files_of_one_folder_may_be_given_one_by_one(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(images.iterdir())):
        report, rows = predict(model_folder, path, tmp_path, kinds=["png"])
        assert (report.segmented, report.others, len(rows)) == (1, number, number + 1)
    predict(model_folder, images, tmp_path / "whole", kinds=["png"])
    report, _ = predict(model_folder, images, tmp_path, kinds=["png"])
    assert (report.kept, report.others) == (4, 0)
    assert contents(tmp_path) == contents(tmp_path / "whole")


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize("part", [None, Part(0, 1)])
def test_results_of_another_folder_are_neither_mixed_nor_deleted(
    model_folder: Path, images: Path, tmp_path: Path, is_file: bool, part: Part | None
) -> None:
    predict(model_folder, images, tmp_path, kinds=["png"])
    before = contents(tmp_path)
    other = tmp_path / "other"
    put_dicom(other / "a.dcm", positive=True)
    given = other / "a.dcm" if is_file else other
    with pytest.raises(
        UsageError, match=r"holds results of files in another folder than .*--overwrite"
    ) as told:
        predict(model_folder, given, tmp_path, kinds=["png"], part=part)
    assert len(str(told.value).splitlines()) == 1
    assert contents(tmp_path) == before
    if part is None:
        _, rows = predict(model_folder, given, tmp_path, kinds=["png"], overwrite=True)
        assert decisions(rows) == {"a.dcm": "positive"}
        assert len(list((tmp_path / "out" / "receipts").iterdir())) == 1
        with pytest.raises(UsageError, match="another folder"):
            predict(model_folder, images, tmp_path)


def test_images_and_results_may_be_moved_together(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path, kinds=["png"])
    (tmp_path / "moved").mkdir()
    for name in ("images", "out"):
        shutil.move(tmp_path / name, tmp_path / "moved")
    report, _ = predict(model_folder, tmp_path / "moved" / "images", tmp_path / "moved", kinds=["png"])
    assert report.kept == 4


def test_results_of_files_that_are_gone_and_of_other_settings_are_not_mixed(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["png"])
    before = contents(tmp_path)
    (images / "case07.dcm").unlink()
    with pytest.raises(UsageError, match=r"results of 1 files that are gone .*other settings") as told:
        predict(model_folder, images, tmp_path, acceptance=AcceptanceFilters(any_view=True))
    assert len(str(told.value).splitlines()) == 1
    assert contents(tmp_path) == before
