from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import draw_case, job_options, write_radiograph
from tests.opened import opened_files
from tests.unit.pipeline.jobs.predictions import contents, predict

from pneumoseg.pipeline.jobs.submit import write_submission

pytestmark = pytest.mark.usefixtures("plain_charts")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two radiographs, a copy of one, one with its UID and other pixels, a lateral one, a cut one, and a picture."""
    folder = tmp_path / "mixed"
    pixels = draw_case(0, positive=True)[0]
    for name, uid in (("a", "1.1"), ("b", "1.2"), ("copy", "1.1")):
        write_radiograph(folder / f"{name}.dcm", pixels, SOPInstanceUID=uid)
    write_radiograph(folder / "other.dcm", 255 - pixels, SOPInstanceUID="1.1")
    write_radiograph(folder / "lateral.dcm", pixels, SOPInstanceUID="1.3", ViewPosition="LL")
    whole = write_radiograph(folder / "cut.dcm", pixels, SOPInstanceUID="1.4").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:-100])
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def of_inputs(opened: Counter[Path], folder: Path) -> dict[str, int]:
    return {path.name: opened[path] for path in folder.iterdir()}


@pytest.mark.parametrize("kinds", [["json"], ["json", "seg", "sr", "overlay"]])
@pytest.mark.parametrize("research", [False, True])
def test_prediction_opens_each_file_once(
    model_folder: Path, mixed: Path, tmp_path: Path, kinds: list[str], research: bool
) -> None:
    with opened_files() as opened:
        _, rows = predict(model_folder, mixed, tmp_path, workers=0, kinds=kinds, research=research)
    assert set(of_inputs(opened, mixed).values()) == {1}
    assert [row["status"] for row in rows].count("segmented") + [row["status"] for row in rows].count(
        "review"
    ) == 3


def test_a_submission_opens_each_file_once(model_folder: Path, mixed: Path, tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    with opened_files() as opened:
        write_submission(
            model_folder, mixed, output, shape=draw_case(0, positive=True)[0].shape, **job_options(workers=0)
        )
    assert set(of_inputs(opened, mixed).values()) == {1}


def test_names_and_duplicates_are_the_same_whether_uids_are_looked_for_in_advance_or_not(
    model_folder: Path, mixed: Path, tmp_path: Path
) -> None:
    _, fresh = predict(model_folder, mixed, tmp_path, workers=0)
    receipts = {path.name: path.read_bytes() for path in (tmp_path / "out" / "receipts").iterdir()}
    before = contents(tmp_path)
    for name in ("1.2.json", "lateral.json", "1.4.json"):
        (tmp_path / "out" / "receipts" / name).unlink(missing_ok=True)
    report, resumed = predict(model_folder, mixed, tmp_path, workers=0)
    assert resumed == fresh
    assert report.kept == 2
    assert contents(tmp_path) == before
    assert receipts.keys() == {path.name for path in (tmp_path / "out" / "receipts").iterdir()}
    assert {"1.1", "1.2", "1.1-2", "1.1-3", "1.3", "1.4", "picture"} == {Path(name).stem for name in receipts}


def test_a_file_that_is_too_large_has_the_name_that_its_uid_gives(model_folder: Path, tmp_path: Path) -> None:
    write_radiograph(tmp_path / "in" / "a.dcm", draw_case(0, positive=True)[0], SOPInstanceUID="1.1")
    path = write_radiograph(tmp_path / "in" / "b.dcm", np.zeros((8, 8), np.uint8), SOPInstanceUID="1.2")
    with path.open("ab") as file:
        file.truncate(2**28 + 1)  # without blocks on the disk
    for _ in range(2):
        _, rows = predict(model_folder, tmp_path / "in", tmp_path, workers=0)
        assert rows[1]["reason"] == "TOO_LARGE"
        assert {path.stem for path in (tmp_path / "out" / "receipts").iterdir()} == {"1.1", "1.2"}
