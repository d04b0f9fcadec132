import gzip
import json
import os
import pickle
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from pneumoseg.transforms.labels.rle import (
    RLEError,
    decode_rle,
    encode_rle,
    format_runs,
    looks_absolute,
    parse_runs,
)

quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module")
def real_texts(shared_data: Path) -> list[str]:
    """The run-length cell of all rows, cut out by hand: no comma occurs in an id."""
    with gzip.open(shared_data / "siim-acr" / "annotations.csv.gz", "rt", encoding="utf-8") as file:
        return [line.split(",")[1].strip() for line in list(file)[1:]]


def decode_pixel_by_pixel(text: str, rows: int, columns: int) -> list[list[int]]:
    """A second decoder, from the challenge's data description: no numpy, one pixel at a time."""
    picture = [[0] * columns for _ in range(rows)]
    numbers = [] if text == "-1" else [int(word) for word in text.split(" ")]
    pixel = 0
    while numbers:
        gap, length, *numbers = numbers
        pixel += gap
        for _ in range(length):
            picture[pixel % rows][pixel // rows] = 1
            pixel += 1
    return picture


# what a text means


def test_pixels_are_numbered_down_each_column_from_0() -> None:
    assert decode_rle("2 3", (3, 4)).tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_a_gap_counts_from_the_end_of_the_run_before() -> None:
    assert parse_runs("2 3 1 2", (3, 4)).tolist() == [[2, 5], [6, 8]]


def test_an_asymmetric_shape_is_not_transposed() -> None:  # two transposed readers would cancel out
    mask = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert encode_rle(mask) == "0 1 2 1 2 1 2 1"
    assert decode_rle("0 1 2 1 2 1 2 1", (3, 4)).tolist() == mask.tolist()


def test_a_run_that_ends_on_the_last_pixel_is_kept() -> None:  # lost by the organisers' encoder
    mask = np.zeros((4, 4), dtype=np.uint8)
    mask[2:, -1] = 1
    assert encode_rle(mask) == "14 2"
    assert decode_rle("14 2", (4, 4)).sum() == 2


def test_a_mask_of_only_the_first_pixel_starts_at_0() -> None:
    assert encode_rle(np.eye(1, 12).reshape(3, 4)) == "0 1"


def test_a_run_goes_on_over_the_border_of_a_column() -> None:
    assert encode_rle(np.ones((3, 4))) == "0 12"


def test_runs_that_meet_at_the_border_of_a_column_are_one() -> None:
    assert encode_rle(np.array([[0, 1], [0, 1], [1, 0]])) == "2 3"


def test_touching_runs_of_a_text_are_written_as_one() -> None:
    assert encode_rle(decode_rle("2 3 0 2", (3, 4))) == "2 5"


def test_an_empty_mask_is_minus_1() -> None:  # the organisers' encoder writes an empty text
    assert encode_rle(np.zeros((3, 4))) == "-1"
    assert decode_rle("-1", (3, 4)).sum() == 0


def test_a_decoded_mask_is_uint8_zeros_and_ones_of_rows_and_columns() -> None:
    mask = decode_rle("2 3", (3, 4))
    assert (mask.dtype.name, mask.shape, np.unique(mask).tolist()) == ("uint8", (3, 4), [0, 1])


# several rows


def test_several_rows_are_united_and_an_overlap_stays_1() -> None:
    assert decode_rle(["2 3", "4 3", "0 1"], (3, 4)).T.ravel().tolist() == [
        1,
        0,
        1,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
    ]


def test_the_same_row_twice_is_the_same_mask() -> None:
    assert decode_rle(["2 3", "2 3"], (3, 4)).sum() == 3


@pytest.mark.parametrize("texts", [[], ["-1"], ["-1", "-1"]])
def test_no_row_and_rows_of_minus_1_are_an_empty_mask(texts: list[str]) -> None:
    assert decode_rle(texts, (3, 4)).sum() == 0


@pytest.mark.parametrize("texts", [["-1", "2 3"], ["2 3", "-1"]])
def test_minus_1_beside_a_mask_is_a_conflict(texts: list[str]) -> None:
    with pytest.raises(RLEError) as caught:
        decode_rle(texts, (3, 4))
    assert caught.value.kind == "CONFLICT"


def test_an_empty_row_among_others_is_unknown_not_negative() -> None:
    with pytest.raises(RLEError) as caught:
        decode_rle(["2 3", ""], (3, 4))
    assert caught.value.kind == "EMPTY"


# errors


def test_each_fault_of_a_text_has_its_kind() -> None:
    table: list[tuple[str, str]] = [
        ("", "EMPTY"),
        (" \t", "EMPTY"),
        ("nan", "EMPTY"),
        ("5", "ODD_TOKENS"),
        ("2 3 1", "ODD_TOKENS"),
        ("-1 3", "NEGATIVE_START"),
        ("5 2 -3 2", "NEGATIVE_START"),
        ("2 -3", "BAD_LENGTH"),
        ("0 0", "BAD_LENGTH"),
        ("12 1", "PAST_END"),
        ("9223372036854775807 2", "PAST_END"),  # the sum must not wrap
        ("2 9223372036854775807", "PAST_END"),
        (f"{10**30} 1", "PAST_END"),
        ("1,024 7", "NOT_INTEGER"),
    ]
    for text, kind in table:
        with pytest.raises(RLEError) as caught:
            parse_runs(text, (3, 4))
        assert caught.value.kind == kind


@pytest.mark.parametrize("text", ["-1.0", " -1 ", "-1.00"])
def test_minus_1_may_be_written_as_spreadsheets_do(text: str) -> None:
    assert parse_runs(text, (3, 4)).tolist() == []


@pytest.mark.parametrize("text", ["2.0 3.0", " 2  3 ", "2\t3\r\n", "02 003"])
def test_whole_numbers_may_be_written_as_spreadsheets_do(text: str) -> None:
    assert parse_runs(text, (3, 4)).tolist() == [[2, 5]]


def test_the_message_says_which_run_leaves_which_mask() -> None:
    with pytest.raises(RLEError) as caught:
        decode_rle("14 4", (4, 4))
    assert str(caught.value) == (
        "run [14, 18) leaves a 4x4 mask of 16 pixels; is the shape (rows, columns) of the original image?"
    )


def test_the_message_for_absolute_starts_says_so() -> None:
    with pytest.raises(RLEError, match="count from the first pixel"):
        decode_rle("2 3 8 2", (3, 4))


@pytest.mark.parametrize(
    ("text", "expected"), [("2 3 8 2", True), ("2 3 4 2", False), ("2 3", False), ("-1", False)]
)
def test_growing_disjoint_starts_look_absolute(text: str, expected: bool) -> None:
    assert looks_absolute(text, (3, 4)) is expected


def test_what_only_some_parsers_take_for_a_number_is_refused() -> None:
    for text in ["\u00a02 3", "2\x0b3", "2\x1c3", "+2 3", "0x2 3", "2 3.", "--1", "- 1", "1e1 2", "² 3"]:
        with pytest.raises(RLEError) as caught:
            parse_runs(text, (3, 4))
        assert caught.value.kind == "NOT_INTEGER"


@pytest.mark.parametrize("shape", [(0, 4), (3, -4), (3,), (3, 4, 1)])
def test_a_shape_that_is_no_image_is_refused(shape: Any) -> None:
    with pytest.raises(RLEError) as caught:
        decode_rle("-1", shape)
    assert caught.value.kind == "BAD_SHAPE"


def test_an_error_survives_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(RLEError("EMPTY", "nothing")))
    assert (error.kind, str(error)) == ("EMPTY", "nothing")


# masks of all kinds


def test_the_type_and_the_value_of_a_mask_do_not_matter() -> None:
    for dtype in ["bool", "uint8", "int64", "uint16", "float16", "float32", "float64"]:
        for value in [1, 255]:
            mask: NDArray[Any] = (np.array([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]) * value).astype(dtype)
            assert encode_rle(mask) == "2 3"


def test_the_memory_layout_of_a_mask_does_not_matter() -> None:
    mask = np.random.default_rng(0).random((40, 30)) < 0.5
    wide = np.zeros((40, 60), dtype=np.bool_)
    wide[:, ::2] = mask
    assert encode_rle(mask) == encode_rle(np.asfortranarray(mask)) == encode_rle(wide[:, ::2])


def test_a_mask_is_not_changed() -> None:
    mask = np.full((3, 4), 255, dtype=np.uint8)
    encode_rle(mask)
    assert (mask == 255).all()


def test_what_is_no_mask_is_refused() -> None:
    for mask in [
        np.ones(12),
        np.ones((1, 3, 4)),
        np.array([[0.0, np.nan]]),
        np.array([[0.0, np.inf]]),
        np.array([[0.2, 0.9]]),
        np.array([["0", "1"]]),
        np.array([[None, 1]], dtype=object),
        np.array([[0j, 1j]]),
    ]:
        with pytest.raises(RLEError) as caught:
            encode_rle(mask)
        assert caught.value.kind == "BAD_MASK"


# against other sources


def test_every_case_of_the_shared_list_is_answered_as_it_says(shared_data: Path) -> None:
    cases = json.loads((shared_data / "rle_cases.json").read_text(encoding="utf-8"))["cases"]
    wrong = []
    for case in cases:
        shape = (case["height"], case["width"])
        if case["kind"] == "string":
            try:
                got: Any = {
                    "runs": [[start, stop - start] for start, stop in parse_runs(case["rle"], shape).tolist()]
                }
            except RLEError as error:
                got = {"error": error.kind}
        elif case["kind"] == "encode":
            flat = np.zeros(shape[0] * shape[1], dtype=np.float32 if "mask_dtype" in case else np.uint8)
            for start, length in case["runs"]:
                flat[start : start + length] = 1
            got = encode_rle(flat.reshape(shape[::-1]).T)
        else:
            continue
        if got != case["expect"]:
            wrong.append((case["id"], got, case["expect"]))
    assert wrong == []


def test_every_real_row_comes_back_as_it_was(real_texts: list[str]) -> None:
    assert len(real_texts) == 11_572
    assert [encode_rle(decode_rle(text, (1024, 1024))) for text in real_texts] == real_texts


def test_real_masks_in_c_order_come_back_too(real_texts: list[str]) -> None:
    masks = [text for text in real_texts if text != "-1"][::10]
    assert [encode_rle(decode_rle(text, (1024, 1024)).copy(order="C")) for text in masks] == masks


def test_a_second_decoder_draws_2_000_random_masks_alike() -> None:
    random = np.random.default_rng(1)
    for number in range(2_000):
        rows, columns = (int(side) for side in random.integers(1, 17, size=2))
        mask = (random.random((rows, columns)) < random.choice([0.02, 0.2, 0.5, 0.8, 0.98])).astype(np.uint8)
        text = encode_rle(mask if number % 2 else np.asfortranarray(mask))
        assert decode_pixel_by_pixel(text, rows, columns) == mask.tolist()
        assert decode_rle(text, (rows, columns)).tolist() == mask.tolist()


def test_a_second_decoder_draws_real_masks_alike(real_texts: list[str]) -> None:
    for text in [text for text in real_texts if text != "-1"][::500]:
        assert (np.array(decode_pixel_by_pixel(text, 1024, 1024)) == decode_rle(text, (1024, 1024))).all()


def test_numbers_of_any_length_are_written_and_read() -> None:
    random = np.random.default_rng(2)
    for largest in (9, 10, 99, 999, 1000, 9999, 10**4, 10**7 - 1, 10**7, 10**9):
        edges = [1, largest, largest - 1, 1000, 1001, 9, 10, 100, 90, 1]
        numbers = [min(each, largest) for each in edges] + random.integers(
            1, largest, 2000, "i8", True
        ).tolist()
        text = " ".join(map(str, numbers))
        runs = parse_runs(text, (sum(numbers), 1))
        assert runs.ravel().tolist() == list(accumulate(numbers))
        assert format_runs(runs) == text


def test_long_texts_may_hold_any_white_space() -> None:
    text = "1 12\t2 3\r\n4 1 " * 2000
    assert (
        parse_runs(text, (1024, 1024)).tolist() == parse_runs(" ".join(text.split()), (1024, 1024)).tolist()
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_masks_with_many_borders_come_back(order: Literal["C", "F"]) -> None:
    random = np.random.default_rng(3)
    for shape in ((64, 64), (63, 41), (1, 200), (200, 1), (100, 8)):
        for mask in (np.indices(shape).sum(0) % 2, random.random(shape) < 0.4, np.ones(shape)):
            text = encode_rle(np.asarray(mask, dtype=np.uint8, order=order))
            assert decode_pixel_by_pixel(text, *shape) == np.asarray(mask, dtype=int).tolist()


# properties


@quick
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24)))
def test_any_mask_survives_encoding_and_decoding(mask: NDArray[np.bool_]) -> None:
    assert (decode_rle(encode_rle(mask), (mask.shape[0], mask.shape[1])) == mask).all()


@quick
@given(st.lists(arrays(np.bool_, (7, 5)), min_size=2, max_size=5))
def test_the_rows_of_an_image_are_united_as_pixels_are(masks: list[NDArray[np.bool_]]) -> None:
    texts = [encode_rle(mask) for mask in masks if mask.any()]
    assert (decode_rle(texts, (7, 5)) == np.logical_or.reduce(masks)).all()


@quick
@given(st.lists(st.integers(0, 6), min_size=2, max_size=12))
def test_a_text_of_small_numbers_is_drawn_or_refused_as_the_second_decoder_does(numbers: list[int]) -> None:
    text = " ".join(map(str, numbers))
    is_valid = len(numbers) % 2 == 0 and min(numbers[1::2]) > 0 and sum(numbers) <= 20
    try:
        drawn = decode_rle(text, (4, 5)).tolist()
    except RLEError:
        assert not is_valid
    else:
        assert is_valid
        assert drawn == decode_pixel_by_pixel(text, 4, 5)


@quick
@given(st.text(alphabet=st.one_of(st.sampled_from("0123456789 -.,e_+\t\n"), st.characters()), max_size=30))
def test_any_text_is_runs_inside_the_image_or_an_rle_error(text: str) -> None:
    try:
        runs = parse_runs(text, (8, 8))
    except RLEError:
        return
    borders = [0, *runs.ravel().tolist(), 64]
    assert borders == sorted(borders)


def test_codec_and_label_reader_load_neither_torch_nor_monai() -> None:
    code = "import sys, pneumoseg.transforms.labels.challenge_csv; "
    code += "sys.exit(not {'torch', 'monai'}.isdisjoint(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
