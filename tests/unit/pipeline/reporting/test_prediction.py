import csv
from pathlib import Path
from typing import Any

import pytest
from tests.unit.pipeline.reporting.folders import image, picture, refused, write_prediction

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reporting.content import Charts, Page, PictureGallery, Shown, Table, Text, Tiles
from pneumoseg.pipeline.reporting.prediction import prediction_page
from pneumoseg.transforms.reader.reasons import Reason


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are thought out, but not written."""
    monkeypatch.setattr("pneumoseg.pipeline.reporting.charts.to_svg", lambda *_, name: f"<svg>{name}</svg>")


def page_of(folder: Path, *rows: dict[str, Any], pictures: tuple[str, ...] = ()) -> Page:
    return prediction_page(write_prediction(folder, *rows, pictures=pictures))


def titles(page: Page) -> list[str]:
    return [each.title for each in page.sections]


def blocks(page: Page, title: str) -> list[Any]:
    return [block for each in page.sections if each.title == title for block in each.blocks]


def tables(page: Page, title: str) -> list[Table]:
    return [block for block in blocks(page, title) if isinstance(block, Table)]


def tiles(page: Page) -> dict[str, tuple[str, str]]:
    (found,) = [block for block in blocks(page, "Summary") if isinstance(block, Tiles)]
    return {tile.name: (tile.value, tile.beside) for tile in found.tiles}


def shown(page: Page) -> list[Shown]:
    return [
        case for block in blocks(page, "Gallery") if isinstance(block, PictureGallery) for case in block.cases
    ]


def test_the_first_line_counts_files_and_images(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9), image("b", 0.1), refused("c.dcm"))
    assert page.subtitle == "3 files, 2 of them segmented"


def test_positives_are_counted_and_are_a_share_of_the_images(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9), *(image(str(number), 0.1) for number in range(3)))
    assert tiles(page)["predicted positive"] == ("1", "25.0% of the images")


def test_files_without_a_result_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        image("a", 0.9),
        refused("b"),
        refused("c", "MULTIFRAME", "skipped"),
        refused("d", "MULTIFRAME", "skipped"),
    )
    assert (tiles(page)["refused"][0], tiles(page)["skipped"][0]) == ("1", "2")


def test_files_that_were_refused_are_a_warning(tmp_path: Path) -> None:
    (warning,) = page_of(tmp_path, image("a", 0.9), refused("b")).warnings
    assert "1 of 2 files" in warning


def test_files_that_were_only_skipped_are_none(tmp_path: Path) -> None:
    assert len(page_of(tmp_path, image("a", 0.9), refused("b", status="skipped")).warnings) == 0


def test_each_warning_is_counted_and_explained(tmp_path: Path) -> None:
    page = page_of(
        tmp_path, image("a", 0.9, reason="BAD_UID NON_SQUARE"), image("b", 0.1, reason="NON_SQUARE")
    )
    (warnings,) = tables(page, "Summary")
    assert [list(row) for row in warnings.rows] == [
        [2, "NON_SQUARE", Reason.NON_SQUARE.sentence],
        [1, "BAD_UID", Reason.BAD_UID.sentence],
    ]
    assert tiles(page)["with a warning"][0] == "2"


def test_a_warning_of_another_release_is_counted_without_a_word(tmp_path: Path) -> None:
    (warnings,) = tables(page_of(tmp_path, image("a", 0.9, reason="NEW_ONE")), "Summary")
    assert [list(row) for row in warnings.rows] == [[1, "NEW_ONE", None]]


def test_a_folder_of_refused_files_has_their_reasons_and_nothing_else(tmp_path: Path) -> None:
    page = page_of(tmp_path, refused("a"), refused("b"), refused("c", "EMPTY_FILE"))
    assert titles(page) == ["Summary", "Files without a result"]
    assert not [block for block in blocks(page, "Summary") if isinstance(block, Charts)]
    reasons, files = tables(page, "Files without a result")
    assert [list(row)[:2] for row in reasons.rows] == [[2, "TRUNCATED"], [1, "EMPTY_FILE"]]
    assert list(files.rows[0]) == ["a", "refused", "TRUNCATED", "half of it"]


@pytest.mark.parametrize("probability", [0.1, 0.9])
def test_images_of_one_kind_have_a_report(tmp_path: Path, probability: float) -> None:
    page = page_of(tmp_path, image("a", probability), image("b", probability), pictures=("a", "b"))
    assert titles(page) == ["Summary", "Gallery", "Images"]
    assert tiles(page)["predicted positive"][0] == ("2" if probability > 0.5 else "0")


def test_without_pictures_there_is_no_gallery(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9))
    assert titles(page) == ["Summary", "Images"]


def test_a_table_without_a_row_has_a_report(tmp_path: Path) -> None:
    assert page_of(tmp_path).subtitle == "0 files, 0 of them segmented"


# the gallery


def test_the_gallery_shows_the_surest_and_those_on_either_side_of_the_line(tmp_path: Path) -> None:
    rows = [image(f"{number:02}", number / 40) for number in range(41)]  # 21 to 40 are positive
    page = page_of(tmp_path, *rows, pictures=tuple(row["name"] for row in rows))
    found = [(case.kind, case.name.removesuffix(".dcm")) for case in shown(page)]
    assert found == [
        *(("highest probability", f"{number:02}") for number in range(40, 32, -1)),
        *(("positive near the threshold", f"{number:02}") for number in range(21, 29)),
        *(("negative near the threshold", f"{number:02}") for number in range(20, 12, -1)),
    ]


def test_no_image_is_shown_twice(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9), image("b", 0.8), pictures=("a", "b"))
    assert [(case.kind, case.name) for case in shown(page)] == [
        ("highest probability", "a.dcm"),
        ("highest probability", "b.dcm"),
    ]


def test_an_image_of_which_there_is_no_picture_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9), image("b", 0.8), pictures=("b",))
    assert [case.name for case in shown(page)] == ["b.dcm"]


def test_an_image_is_shown_with_what_was_found(tmp_path: Path) -> None:
    (case,) = shown(page_of(tmp_path, image("a", 0.9), pictures=("a",)))
    assert (case.facts, case.text) == ({"probability": "0.900"}, "What a shows.")
    assert [panel.name for panel in case.panels] == ["overlay"]
    assert case.panels[0].jpeg.startswith(b"\xff\xd8\xff")


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_prediction(tmp_path / "out", image("../../secret", 0.9))
    (tmp_path / "secret.png").write_bytes(picture("PNG"))
    assert shown(prediction_page(tmp_path / "out")) == []


# the table


def test_the_most_probable_images_come_first(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.1), image("b", 0.9), image("c", 0.1))
    (images,) = tables(page, "Images")
    assert [row[0] for row in images.rows] == ["b.dcm", "a.dcm", "c.dcm"]


def test_columns_of_which_nothing_is_known_are_left_out(tmp_path: Path) -> None:
    (images,) = tables(page_of(tmp_path, image("a", 0.1), image("b", 0.9, area_px=7)), "Images")
    assert list(images.columns) == ["image", "status", "decision", "probability", "area px"]
    assert [list(row) for row in images.rows] == [
        ["b.dcm", "segmented", "positive", 0.9, 7],
        ["a.dcm", "segmented", "negative", 0.1, None],
    ]


def test_images_can_be_chosen_by_status_decision_side_and_reason(tmp_path: Path) -> None:
    page = page_of(tmp_path, image("a", 0.9, side="left", reason="BAD_UID"))
    assert list(tables(page, "Images")[0].filters) == ["status", "decision", "side", "reasons"]


@pytest.mark.parametrize("name", ["007", "1e5", "nan", "x" * 300])
def test_the_name_of_an_image_stays_as_it_is(tmp_path: Path, name: str) -> None:
    (images,) = tables(page_of(tmp_path, {**image("a", 0.9), "image": name}), "Images")
    assert images.rows[0][0] == name


def test_of_very_many_images_the_least_probable_are_left_to_the_file(tmp_path: Path) -> None:
    rows = [image(f"{number}", number / 10_000) for number in range(5002)]
    (images,) = tables(page_of(tmp_path, *rows), "Images")
    assert (len(images.rows), images.left_out, images.file) == (5000, 2, "predictions.csv")
    assert images.rows[-1][0] == "2.dcm"


def test_a_mask_of_very_many_runs_does_no_harm(tmp_path: Path) -> None:
    assert titles(page_of(tmp_path, image("a", 0.9, rle="1 1 " * 50_000))) == ["Summary", "Images"]


def test_how_the_gallery_was_chosen_is_said_above_it(tmp_path: Path) -> None:
    first = blocks(page_of(tmp_path, image("a", 0.9), pictures=("a",)), "Gallery")[0]
    assert isinstance(first, Text)


# damage


@pytest.mark.parametrize(
    "table",
    ["", "a,b\n1,2\n", "image,status,decision\nx,segmented,positive\n", "image,status,reason\nx,refused,\n"],
)
def test_a_damaged_table_is_an_error_of_one_line_that_names_its_folder(tmp_path: Path, table: str) -> None:
    (tmp_path / "predictions.csv").write_text(table)
    with pytest.raises(JobError) as caught:
        prediction_page(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_probability_that_is_none_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    write_prediction(tmp_path, {**image("a", 0.9), "probability": "likely"})
    with pytest.raises(JobError, match=f"{tmp_path}: holds results"):
        prediction_page(tmp_path)


def test_a_picture_that_is_damaged_anywhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_prediction(tmp_path, image("a", 0.9), pictures=("a",))
    path, whole = tmp_path / "overlays" / "a.png", picture("PNG")
    failed = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            prediction_page(tmp_path)
        except JobError as error:
            failed += 1
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert failed > len(whole) / 3 / 2


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", picture("PNG")[:-40], b"<svg/>"])
def test_a_picture_that_is_cut_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    write_prediction(tmp_path, image("a", 0.9), pictures=("a",))
    (tmp_path / "overlays" / "a.png").write_bytes(content)
    with pytest.raises(JobError, match=r"a\.png"):
        prediction_page(tmp_path)


def test_the_table_is_read_as_predict_writes_it(tmp_path: Path) -> None:
    """A name that would be a formula comes with the quote that keeps spreadsheets from it."""
    write_prediction(tmp_path, {**image("a", 0.9), "image": "=cmd"})
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["image"] == "'=cmd"
    assert tables(prediction_page(tmp_path), "Images")[0].rows[0][0] == "'=cmd"


def test_images_to_review_are_a_warning_and_come_first_in_the_gallery(tmp_path: Path) -> None:
    turned = image("b", 0.1, status="review", decision="indeterminate", reason="LOOKS_TURNED")
    page = page_of(tmp_path, image("a", 0.9), turned, image("c", 0.2), pictures=("a", "b", "c"))
    (warning,) = page.warnings
    assert warning.startswith("To be reviewed: 1 of 3 images")
    assert page.subtitle == "3 files, 3 of them segmented"
    assert tiles(page)["to be reviewed"][0] == "1"
    assert [(case.kind, case.name) for case in shown(page)] == [
        ("to be reviewed", "b.dcm"),
        ("highest probability", "a.dcm"),
        ("negative near the threshold", "c.dcm"),
    ]
