import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumoseg.transforms.labels.challenge_csv import Labels, is_safe_id, read_labels
from pneumoseg.transforms.labels.rle import decode_rle
from pneumoseg.transforms.labels.runs import area_px
from pneumoseg.transforms.labels.text_table import LabelFileError

HEADER = "ImageId,EncodedPixels\n"
Read = Callable[[str | bytes], Labels]

quick = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a CSV text or its bytes for images of 3 rows and 4 columns."""

    def read_text(content: str | bytes) -> Labels:
        path = tmp_path / "labels.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_labels(path, shape=(3, 4))

    return read_text


def runs_of(labels: Labels) -> dict[str, list[list[int]]]:
    return {name: label.runs.tolist() for name, label in labels.images.items()}


def problems(labels: Labels) -> list[tuple[int, str, str]]:
    return [(issue.line, issue.image_id, issue.kind) for issue in labels.errors]


# forms of the file


@pytest.mark.parametrize(
    "text",
    [
        "ImageId,EncodedPixels\na,2 3\nb,-1\n",
        "ImageId, EncodedPixels\na, 2 3\nb, -1\n",
        "ImageId, EncodedPixels\na,2 3\nb,-1",
        "\ufeffImageId,EncodedPixels\r\na,2 3\r\nb,-1\r\n",
        "\ufeffa,2 3\nb,-1\n",
        "a, 2 3\nb, -1\n",
        ",ImageId,EncodedPixels\n0,a,2 3\n1,b,-1.0\n",
        "ImageId;EncodedPixels\na;2 3\nb;-1\n",
        "ImageId\tEncodedPixels\na\t2 3\nb\t-1\n",
        "imageid,encodedpixels\na,2 3\nb,-1\n",
        "\n\nImageId,EncodedPixels\n\na,2 3\n , \nb,-1,\n",
    ],
    ids=[
        "generation 2",
        "generation 1",
        "spaced header only",
        "BOM and CRLF",
        "BOM without header",
        "without header",
        "pandas index",
        "semicolons",
        "tabs",
        "lower case",
        "blank lines and cells",
    ],
)
def test_all_forms_of_the_file_say_the_same(read: Read, text: str) -> None:
    labels = read(text)
    assert runs_of(labels) == {"a": [[2, 5]], "b": []}
    assert labels.errors == labels.warnings == []


def test_gzip_is_known_by_its_content_whatever_the_name(read: Read) -> None:
    assert runs_of(read(gzip.compress(f"{HEADER}a,2 3\n".encode()))) == {"a": [[2, 5]]}


def test_another_column_can_hold_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("NIH_ID,ImageId, EncodedPixels\n1.png,a, 2 3\n", encoding="utf-8")
    assert runs_of(read_labels(path, shape=(3, 4), id_column="NIH_ID")) == {"1.png": [[2, 5]]}


def test_a_file_without_header_may_begin_with_an_empty_cell(read: Read) -> None:
    labels = read("a,\nb,2 3\n")
    assert (runs_of(labels), labels.unknown) == ({"b": [[2, 5]]}, {"a": 1})
    assert [(issue.line, issue.kind) for issue in labels.errors] == [(1, "EMPTY")]


@pytest.mark.parametrize("cell", ["nan", "1\t2", "1.0 2.0", "-1 3"])
def test_a_file_without_header_may_begin_with_any_cell_of_a_label(read: Read, cell: str) -> None:
    assert runs_of(read(f"a,{cell}\nb,2 3\n"))["b"] == [[2, 5]]


def test_a_header_without_rows_has_no_images(read: Read) -> None:
    assert read(HEADER).images == {}


# rows of one image


def test_the_rows_of_an_image_are_united_and_kept_with_their_lines(read: Read) -> None:
    label = read(f"{HEADER}a,2 3\nb,-1\na,4 3\n").images["a"]
    assert label.runs.tolist() == [[2, 7]]
    assert label.texts == ("2 3", "4 3")
    assert label.lines == (2, 4)


def test_an_overlap_is_a_warning_that_says_where(read: Read) -> None:
    [warning] = read(f"{HEADER}a,2 3\na,4 3\n").warnings
    assert (warning.kind, warning.line, warning.image_id) == ("OVERLAP", 3, "a")


def test_rows_that_only_touch_do_not_overlap(read: Read) -> None:
    assert read(f"{HEADER}a,2 3\na,5 2\n").warnings == []


def test_a_negative_image_has_no_texts(read: Read) -> None:
    assert read(f"{HEADER}a,-1\na,-1\n").images["a"].texts == ()


def test_the_texts_decode_to_the_runs(read: Read) -> None:
    label = read(f"{HEADER}a,2 3\na,4 3\n").images["a"]
    assert decode_rle(label.texts, (3, 4)).sum() == area_px(label.runs) == 5


@pytest.mark.parametrize("rows", ["a,-1\na,2 3\n", "a,2 3\na,-1\n"])
def test_minus_1_beside_a_mask_drops_the_image(read: Read, rows: str) -> None:
    labels = read(f"{HEADER}{rows}b,-1\n")
    assert runs_of(labels) == {"b": []}
    assert problems(labels) == [(3, "a", "CONFLICT")]


def test_one_bad_row_drops_all_rows_of_its_image_and_no_other(read: Read) -> None:
    labels = read(f"{HEADER}a,2 3\nb,0 1\na,10 5\na,0 1\n")
    assert runs_of(labels) == {"b": [[0, 1]]}
    assert problems(labels) == [(4, "a", "PAST_END")]


def test_an_empty_cell_is_unknown_and_not_negative(read: Read) -> None:
    labels = read(f"{HEADER}a,\nb,-1\nc\n")
    assert runs_of(labels) == {"b": []}
    assert labels.unknown == {"a": 2, "c": 4}
    assert problems(labels) == [(2, "a", "EMPTY"), (4, "c", "EMPTY")]


def test_a_row_is_named_by_the_line_it_starts_on(read: Read) -> None:
    labels = read(f'{HEADER}\na,"2 3\n1 2"\n\nb,7\n')
    assert runs_of(labels) == {"a": [[2, 5], [6, 8]]}
    assert problems(labels) == [(6, "b", "ODD_TOKENS")]


def test_an_issue_reads_as_one_line(read: Read) -> None:
    [issue] = read(f"{HEADER}a,10 5\n").errors
    assert str(issue) == (
        "line 2: PAST_END: run [10, 15) leaves a 3x4 mask of 12 pixels; "
        "is the shape (rows, columns) of the original image?"
    )


# ids


@pytest.mark.parametrize(
    "image_id",
    [
        "1.2.276.0.7230010.3.1.4.8323329.1000.1517875165.878027",
        "ID_0011fe81e",
        "00001170_045.png",
        "NA",
        "Müller (1)",
    ],
)
def test_ids_that_are_used_are_safe(image_id: str) -> None:
    assert is_safe_id(image_id)


def test_ids_that_could_do_harm_where_they_are_written_are_not_safe() -> None:
    for image_id in (
        *("", ".hidden", "../x", "a/b", "a\\b", "C:x", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "a,b"),
        *('"a"', "<b>", "a\x1b[31m", "a\nb", "a\x00b", "\u202egnp.exe", "a\u200bb", "M\udcfcller", "x" * 201),
    ):
        assert not is_safe_id(image_id)


def test_an_unsafe_id_is_shown_with_its_control_characters_spelled_out(read: Read) -> None:
    labels = read(f"{HEADER}a\x1b[31m,2 3\nb,-1\n")
    assert problems(labels) == [(2, "a\\x1b[31m", "BAD_ID")]
    assert labels.errors[0].message.isprintable()


def test_a_byte_that_is_not_utf8_spoils_its_row_only(read: Read) -> None:
    labels = read(f"{HEADER}Müller,2 3\nb,-1\n".encode("latin-1"))
    assert runs_of(labels) == {"b": []}
    assert problems(labels) == [(2, "M\\udcfcller", "BAD_ID")]


# absolute starts


def absolute_text(first: int) -> str:
    return " ".join(f"{first + 700 * k} 20" for k in range(5))


def test_a_file_of_absolute_starts_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "".join(f"i{k},{absolute_text(k + 1)}\n" for k in range(30)), encoding="utf-8")
    labels = read_labels(path, shape=(64, 64))
    assert [(issue.kind, issue.line) for issue in labels.warnings] == [("LOOKS_ABSOLUTE", 2)]
    assert {issue.kind for issue in labels.errors} == {"PAST_END"}
    assert labels.images == {}


def test_absolute_starts_are_named_though_all_runs_end_in_the_image(tmp_path: Path) -> None:
    # at the left of a large image the sum of the starts is inside, and every mask would be at a wrong place
    path = tmp_path / "labels.csv"
    path.write_text(f"{HEADER}a,1000 5 2024 5 3048 5\nb,3000 5 4024 5 5048 5\nc,-1\n", encoding="utf-8")
    labels = read_labels(path)
    assert [(issue.kind, issue.line) for issue in labels.warnings] == [("LOOKS_ABSOLUTE", 2)]


def test_a_few_absolute_rows_are_errors_without_a_word_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    good = "".join(f"g{k},5 3 60 4\n" for k in range(10))
    path.write_text(f"{HEADER}{good}x,{absolute_text(1)}\n", encoding="utf-8")
    labels = read_labels(path, shape=(64, 64))
    assert (len(labels.images), problems(labels), labels.warnings) == (10, [(12, "x", "PAST_END")], [])


# the real files and the shared cases


@pytest.mark.parametrize(
    ("name", "images", "positive", "rows"),
    [  # counted with cut, grep, sort -u and wc
        ("siim-acr/annotations.csv.gz", 10_777, 2_251, 11_572),
        ("siim-acr/train-rle.csv", 970, 219, 970),
        ("siim-acr/stage_2_train.csv", 970, 219, 970),
        ("siim-acr/sample_submission.csv", 970, 0, 970),
        ("siim-acr/sample-images/train-rle-sample.csv", 10, 5, 10),
        ("nih-png/rle.csv", 4, 2, 6),
    ],
)
def test_real_files_are_read_without_an_error(
    shared_data: Path, name: str, images: int, positive: int, rows: int
) -> None:
    labels = read_labels(shared_data / name)
    assert labels.errors == []
    assert len(labels.images) == images
    assert sum(len(label.runs) > 0 for label in labels.images.values()) == positive
    assert sum(len(label.lines) for label in labels.images.values()) == rows


def test_both_generations_hold_the_same_masks(shared_data: Path) -> None:
    first, second = (
        read_labels(shared_data / "siim-acr" / name) for name in ("train-rle.csv", "stage_2_train.csv")
    )
    assert runs_of(first) == runs_of(second)


LENIENT = {  # where the shared list says that accepting is right too, these are accepted
    "csv_semicolon": {"images": {"a": {"runs": [[2, 3]]}}},
    "csv_tab": {"images": {"a": {"runs": [[2, 3]]}}},
    "csv_other_case": {"images": {"a": {"runs": [[2, 3]]}}},
    "csv_latin1_id": {"images": {"b": {"runs": []}}, "errors": [{"line": 2, "kind": "BAD_ID"}]},
    # what lies in the folder is no business of the file's reader
    "csv_folder_not_in_csv": {"images": {"a": {"runs": [[2, 3]]}}},
}


def test_every_case_of_the_shared_list_is_answered_as_it_says(shared_data: Path, tmp_path: Path) -> None:
    cases = json.loads((shared_data / "rle_cases.json").read_text(encoding="utf-8"))["cases"]
    wrong = []
    for case in (case for case in cases if "csv" in case):
        path = tmp_path / "case.csv"
        path.write_bytes(case["csv"].encode(case["encoding"]))
        try:
            labels = read_labels(path, shape=(case["height"], case["width"]))
        except LabelFileError as error:
            got: dict[str, Any] = {"file_error": error.kind}
        else:
            got = {
                "images": {
                    name: {"runs": [[start, stop - start] for start, stop in runs]}
                    for name, runs in runs_of(labels).items()
                }
            }
            if labels.errors:
                got["errors"] = [{"line": issue.line, "kind": issue.kind} for issue in labels.errors]
        if got != LENIENT.get(case["id"], case["expect"]):
            wrong.append((case["id"], got, case["expect"]))
    assert wrong == []


# size


def test_a_checkerboard_of_2_mb_in_one_cell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"{HEADER}a,0 1{' 1 1' * (1024 * 512 - 1)}\n", encoding="utf-8")
    runs = read_labels(path).images["a"].runs
    assert len(runs) == area_px(runs) == 524_288


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc"
)
@pytest.mark.slow
def test_100_000_rows_are_read_in_under_300_mb(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = (f"id{number:06},{'-1' if number % 2 else '2 3'}\n" for number in range(100_000))
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    code = """if True:
        import re, sys
        from pneumoseg.transforms.labels.challenge_csv import read_labels
        images = len(read_labels(sys.argv[1], shape=(3, 4)).images)
        peak_kib = re.search(r"VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]
        print(images, peak_kib)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, "-c", code, path], env=environment, text=True)
    images, peak_kib = map(int, output.split())
    assert images == 100_000
    assert peak_kib * 1024 < 300e6


# properties


IDS = st.text("AZaz09_.", min_size=1, max_size=12).filter(is_safe_id)  # `from_regex` takes ten times as long
PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=2)


@quick
@given(st.dictionaries(IDS, PAIRS, min_size=1, max_size=6))
def test_what_a_csv_writer_writes_is_read_back(read: Read, images: dict[str, list[tuple[int, int]]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["ImageId", "EncodedPixels"])
    for name, pairs in images.items():
        writer.writerow([name, " ".join(f"{gap} {length}" for gap, length in pairs) or "-1"])
    labels = read(text.getvalue())
    too_long = {name for name, pairs in images.items() if sum(map(sum, pairs)) > 12}
    assert set(labels.images) == set(images) - too_long
    assert {issue.image_id for issue in labels.errors} == too_long
    for name, label in labels.images.items():
        assert area_px(label.runs) == sum(length for _, length in images[name])


ROWS = st.lists(st.text(st.sampled_from("ab,;\t\"' -1023\r\n\x00\ufeffé=/"), max_size=12), max_size=8)


@quick
@given(st.one_of(st.binary(max_size=200), ROWS.map(lambda rows: (HEADER + "\n".join(rows)).encode())))
def test_any_bytes_are_labels_or_one_file_error(read: Read, content: bytes) -> None:
    try:
        labels = read(content)
    except LabelFileError:
        return
    assert all(is_safe_id(name) for name in labels.images)
    assert not labels.images.keys() & {issue.image_id for issue in labels.errors}
    assert all(str(issue).isprintable() and issue.line > 0 for issue in (*labels.errors, *labels.warnings))
