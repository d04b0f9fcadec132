import errno
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import bright_pixel_network, draw_case, job_options, write_model, write_radiograph
from tests.unit.pipeline.jobs.predictions import contents, files, predict

from pneumoseg.pipeline.cli.summaries import predict_summary
from pneumoseg.pipeline.core.claims import claim_folder, locked
from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.description import TunedPoint
from pneumoseg.pipeline.results.output_folder import claimed
from pneumoseg.pipeline.results.planning import Part
from pneumoseg.pipeline.results.settings import KINDS
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

pytestmark = pytest.mark.usefixtures("plain_charts")


def test_a_second_run_keeps_what_is_there(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.dcm").write_bytes(b"broken")
    first, _ = predict(model_folder, images, tmp_path)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in files(tmp_path)}
    second, rows = predict(model_folder, images, tmp_path)
    assert (first.kept, second.kept, second.segmented, second.exit_code) == (0, 4, 4, 3)
    assert "4 of them had their results from an earlier run" in predict_summary(second)
    assert len(rows) == 5
    changed = [name for name in before if (tmp_path / "out" / name).stat().st_mtime_ns != before[name]]
    assert changed == ["predictions.csv", "predictions.json"]


@pytest.mark.parametrize("damage", ["cut", "gone", "receipt"])
def test_a_result_that_is_not_whole_is_made_again(
    model_folder: Path, images: Path, tmp_path: Path, damage: str
) -> None:
    _, rows = predict(model_folder, images, tmp_path)
    good = contents(tmp_path)
    mask = tmp_path / "out" / "masks" / f"{rows[1]['name']}.png"
    if damage == "cut":
        mask.write_bytes(mask.read_bytes()[:-1])
    elif damage == "gone":
        mask.unlink()
    else:
        (tmp_path / "out" / "receipts" / f"{rows[1]['name']}.json").write_text("{")
    report, _ = predict(model_folder, images, tmp_path)
    assert report.kept == 3
    assert contents(tmp_path) == good


def test_a_changed_file_is_segmented_again(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    write_radiograph(images / "case01.dcm", draw_case(3, positive=True)[0], SOPInstanceUID="1.2.1")
    report, rows = predict(model_folder, images, tmp_path)
    assert report.kept == 3
    with Image.open(tmp_path / "out" / "masks" / f"{rows[1]['name']}.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture) // 255, draw_case(3, positive=True)[1])


def test_another_threshold_or_other_settings_do_all_again(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path)
    other = write_model(
        tmp_path / "model", bright_pixel_network(), point=TunedPoint(threshold=0.25, min_area_fraction=0)
    )
    assert predict(other, images, tmp_path)[0].kept == 0
    assert predict(other, images, tmp_path)[0].kept == 4
    assert predict(other, images, tmp_path, acceptance=AcceptanceFilters(any_view=True))[0].kept == 0


def test_results_of_kinds_that_are_not_asked_for_any_more_are_gone(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["png", "nifti"])
    _, rows = predict(model_folder, images, tmp_path, kinds=["png"])
    assert files(tmp_path) == [*sorted(f"masks/{row['name']}.png" for row in rows), "predictions.csv"]


def test_tables_of_other_settings_are_gone_before_the_first_result_changes(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model_folder, images, tmp_path, kinds=["csv", "json"])

    def stop(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "stopped")

    monkeypatch.setattr("pneumoseg.pipeline.results.processing.withdraw", stop)  # of the first result
    with pytest.raises(OSError, match="stopped"):
        predict(model_folder, images, tmp_path, kinds=["csv"])
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not left & {"predictions.csv", "predictions.json", "report.html"}


def test_a_table_that_is_not_asked_for_any_more_is_gone(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path, kinds=["csv", "json"])
    predict(model_folder, images, tmp_path, kinds=["csv"])
    assert files(tmp_path) == ["predictions.csv"]


def test_a_part_with_another_threshold_leaves_no_table_of_the_first(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    predict(model_folder, images, tmp_path)
    point = TunedPoint(threshold=0.25, min_area_fraction=0)
    other = write_model(tmp_path / "model", bright_pixel_network(), point=point)
    predict_folder(other, images, tmp_path / "out", runtime=Runtime(device="cpu", workers=0), part=Part(0, 2))
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_a_folder_in_use_is_refused(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    for overwrite in (False, True):
        with locked(tmp_path / "out"), pytest.raises(JobError, match="in use by another process"):
            predict(model_folder, images, tmp_path, overwrite=overwrite)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model_folder, images, tmp_path / "whole")
    really, room = os.fsync, iter(range(7))

    def fsync(descriptor: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        predict(model_folder, images, tmp_path)
    monkeypatch.undo()
    whole = contents(tmp_path / "whole")
    half = contents(tmp_path)
    assert 0 < len(half) < len(whole)
    assert half.items() <= whole.items()
    predict(model_folder, images, tmp_path)
    assert contents(tmp_path) == whole


def test_what_a_killed_run_was_writing_is_removed(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path)
    (tmp_path / "out" / "masks" / ".writing-0123.png").write_bytes(b"half")
    predict(model_folder, images, tmp_path)
    assert not list((tmp_path / "out").rglob(".writing*"))


# parts


@pytest.mark.slow
@pytest.mark.usefixtures("unjudged")
def test_parts_make_together_what_one_run_makes(
    model_folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumoseg.pipeline.results.receipts.now", lambda: datetime(2026, 3, 4, tzinfo=UTC))
    (images / "broken.dcm").write_bytes(b"broken")
    write_radiograph(images / "other" / "a.dcm", draw_case(4, positive=True)[0], SOPInstanceUID="1.2.4")
    predict(model_folder, images, tmp_path / "whole", kinds=KINDS, dropout_passes=2)
    reports = []
    for number in (2, 0, 1):
        assert not (tmp_path / "out" / "predictions.csv").exists()
        reports.append(
            predict_folder(
                model_folder,
                images,
                tmp_path / "out",
                options=ModelOptions(dropout_passes=2),
                runtime=Runtime(device="cpu", workers=0),
                kinds=KINDS,
                part=Part(number, 3),
            )
        )
    assert contents(tmp_path) == contents(tmp_path / "whole")
    assert [report.has_tables for report in reports] == [False, False, True]
    assert [report.segmented for report in reports] == [2, 1, 2]
    assert [report.exit_code for report in reports] == [0, 3, 0]


def test_neither_a_part_runs_twice_nor_beside_a_run_of_the_whole(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with claimed(out, part=Part(0, 2), overwrite=False, source=images):
        with (
            pytest.raises(JobError, match="in use"),
            claimed(out, part=Part(0, 2), overwrite=False, source=images),
        ):
            pass
        with pytest.raises(JobError, match="in use"):
            predict(model_folder, images, tmp_path)
        with claimed(out, part=Part(1, 2), overwrite=False, source=images):
            pass
    predict(model_folder, images, tmp_path)


def test_parts_of_another_number_do_not_run_beside_each_other(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_folder(model_folder, images, out, runtime=Runtime(device="cpu", workers=0), part=Part(0, 2))
    with locked(out / ".parts" / "0-of-2"), pytest.raises(JobError, match="in use by part 0-of-2"):
        predict_folder(model_folder, images, out, runtime=Runtime(device="cpu", workers=0), part=Part(0, 3))


def test_the_last_part_removes_what_a_killed_one_was_writing(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_folder(model_folder, images, out, runtime=Runtime(device="cpu", workers=0), part=Part(0, 2))
    (out / "masks" / ".writing-0123.png").write_bytes(b"half")
    predict_folder(model_folder, images, out, runtime=Runtime(device="cpu", workers=0), part=Part(1, 2))
    assert not list(out.rglob(".writing*"))


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_there_is_not_is_a_usage_error(number: int, count: int) -> None:
    with pytest.raises(UsageError, match="--part-id"):
        Part(number, count)


def test_a_part_does_not_delete_what_others_have_made(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="leave it out"):
        predict(model_folder, images, tmp_path, part=Part(0, 2), overwrite=True)


# --- one UID in several files


def with_duplicates(images: Path) -> None:
    """Add files that share the UID of case 0: before and after it, with its pixels and with others."""
    for name, number in (("a", 4), ("case00b", 0), ("z", 4), ("zz", 2)):
        write_radiograph(images / f"{name}.dcm", draw_case(number, positive=True)[0], SOPInstanceUID="1.2.0")


STATUSES = {
    "a.dcm": "segmented",
    "case00.dcm": "refused",
    "case00b.dcm": "refused",
    "z.dcm": "skipped",
    "zz.dcm": "refused",
}


@pytest.mark.usefixtures("unjudged")
def test_of_several_files_with_one_uid_only_the_first_has_a_result(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    with_duplicates(images)
    report, rows = predict(model_folder, images, tmp_path, kinds=["json", "sr"])
    same = {row["image"]: row for row in rows if row["image"] in STATUSES}
    assert {name: row["status"] for name, row in same.items()} == STATUSES
    assert {row["reason"] for row in same.values() if row["status"] != "segmented"} == {"DUPLICATE_UID"}
    assert (report.segmented, report.refused, report.exit_code) == (4, 3, 3)
    assert len(list((tmp_path / "out" / "sr").iterdir())) == 4


@pytest.mark.parametrize("count", [2, 3])
def test_in_parts_and_on_resume_the_same_one_of_several_files_has_the_result(
    model_folder: Path, images: Path, tmp_path: Path, count: int
) -> None:
    # case 0 has a result
    before, _ = predict(model_folder, images, tmp_path / "parts", kinds=["json", "png"])
    assert before.segmented == 4
    with_duplicates(images)
    predict(model_folder, images, tmp_path / "whole", kinds=["json", "png"])
    for number in reversed(range(count)):
        predict_folder(
            model_folder,
            images,
            tmp_path / "parts" / "out",
            **job_options(kinds=["json", "png"], part=Part(number, count)),
        )
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


# --- links


def test_links_are_counted_or_followed(model_folder: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "annex").mkdir()
    (images / "case00.dcm").rename(tmp_path / "annex" / "MD5-0.dcm")
    (images / "case00.dcm").symlink_to(tmp_path / "annex" / "MD5-0.dcm")
    report, rows = predict(model_folder, images, tmp_path)
    assert (report.links, len(rows)) == (1, 3)
    assert "1 links not followed" in str(predict_summary(report)[0])
    report, rows = predict(model_folder, images, tmp_path, follow_links=True)
    assert (report.links, len(rows)) == (0, 4)
    assert "links" not in str(predict_summary(report)[0])


@pytest.mark.parametrize(
    "name", ["masks", "receipts", ".parts", "run.log", ".lock", "predictions.csv", "report.html"]
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_written_through_a_link_among_the_results(
    model_folder: Path, images: Path, tmp_path: Path, name: str, is_folder: bool
) -> None:
    claim_folder(tmp_path / "out", overwrite=False, command="predict")
    target = tmp_path / "target"
    if is_folder:
        target.mkdir()
    else:
        target.write_text("mine")
    (tmp_path / "out" / name).symlink_to(target)
    with pytest.raises(JobError, match="is a link") as caught:
        predict(model_folder, images, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert (list(target.iterdir()) == []) if is_folder else (target.read_text() == "mine")


@pytest.mark.parametrize("name", ["run.log", ".lock", "predictions.csv", "report.html"])
def test_a_folder_where_a_result_belongs_is_an_error_of_one_line(
    model_folder: Path, images: Path, tmp_path: Path, name: str
) -> None:
    claim_folder(tmp_path / "out", overwrite=False, command="predict")
    (tmp_path / "out" / name).mkdir()
    with pytest.raises((JobError, OSError), match=re.escape(name)) as caught:
        predict(model_folder, images, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


FORGED: tuple[dict[str, Any], ...] = (
    {"row": {}},
    {"row": {"status": "segmented", "reason": "BECAUSE"}},
    {"outputs": {"masks/\0.png": "0" * 64}},
    {"outputs": {f"masks/{'x' * 5000}.png": "0" * 64}},
)


def test_a_forged_receipt_counts_as_none(model_folder: Path, images: Path, tmp_path: Path) -> None:
    predict(model_folder, images, tmp_path, kinds=["json", "png"])
    expected = contents(tmp_path)
    for path, forged in zip((tmp_path / "out" / "receipts").iterdir(), FORGED, strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), **forged}))
    report, _ = predict(model_folder, images, tmp_path, kinds=["json", "png"])
    assert (report.segmented, report.kept) == (4, 0)
    assert contents(tmp_path) == expected
