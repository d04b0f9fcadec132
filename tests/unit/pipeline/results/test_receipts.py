import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pneumoseg.pipeline.core.names import shown
from pneumoseg.pipeline.results.receipts import (
    Receipt,
    history_of,
    is_valid,
    read_receipt,
    receipt_path,
    withdraw,
    write_receipt,
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with one result and its receipt."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"mask")
    write_receipt(tmp_path, "a", RECEIPT)
    return tmp_path


RECEIPT = Receipt(
    image="é/a.dcm",
    input_sha256="1" * 64,
    settings_sha256="2" * 64,
    row={"status": "segmented", "reason": "", "sentence": "é"},
    outputs={"masks/a.png": hashlib.sha256(b"mask").hexdigest()},
)


def valid(output: Path, *, input_sha256: str | None = "1" * 64) -> bool:
    receipt = read_receipt(output, "a")
    return receipt is not None and is_valid(receipt, output, hash_input=lambda: input_sha256)


def test_a_receipt_can_be_read_back(output: Path) -> None:
    assert read_receipt(output, "a") == RECEIPT
    assert valid(output)


def test_a_receipt_is_of_one_content_of_one_file_and_of_one_set_of_settings(output: Path) -> None:
    assert not valid(output, input_sha256="3" * 64)
    assert not valid(output, input_sha256=None)
    assert RECEIPT.is_of("é/a.dcm", "2" * 64)
    assert not RECEIPT.is_of("a.dcm", "2" * 64)
    assert not RECEIPT.is_of("é/a.dcm", "3" * 64)


def test_a_receipt_is_of_a_file_whose_name_is_not_unicode(output: Path) -> None:
    name = os.fsdecode(b"caf\xe9.dcm")
    write_receipt(output, "a", replace(RECEIPT, image=shown(name)))
    receipt = read_receipt(output, "a")
    assert receipt is not None
    assert receipt.is_of(name, "2" * 64)


def test_an_input_without_a_result_is_not_hashed(output: Path) -> None:
    def hash_input() -> str:
        raise AssertionError("hashed")

    refused = replace(RECEIPT, row={"status": "refused", "reason": "TRUNCATED"})
    assert not is_valid(refused, output, hash_input=hash_input)


def test_a_receipt_vouches_for_each_byte(output: Path) -> None:
    (output / "masks" / "a.png").write_bytes(b"mosk")
    assert not valid(output)
    (output / "masks" / "a.png").unlink()
    assert not valid(output)


def test_what_was_refused_is_tried_again(output: Path) -> None:
    write_receipt(output, "a", replace(RECEIPT, row={"status": "refused", "reason": "TRUNCATED"}, outputs={}))
    assert not valid(output)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format_version": 3}', "[" * 100_000, '{"row": 1}', "\xff"]
)
def test_what_is_no_receipt_counts_as_none(output: Path, content: str) -> None:
    receipt_path(output, "a").write_text(content, encoding="latin-1")
    assert read_receipt(output, "a") is None
    assert not valid(output)


def test_a_receipt_goes_before_its_results(output: Path) -> None:
    withdraw(output, "a")
    assert not receipt_path(output, "a").exists()
    assert not (output / "masks" / "a.png").exists()


def test_nothing_outside_of_the_folder_is_deleted(output: Path) -> None:
    outside = output.parent / "outside.txt"
    outside.write_text("mine")
    write_receipt(output, "a", replace(RECEIPT, outputs={"../outside.txt": "0" * 64, str(outside): "0" * 64}))
    withdraw(output, "a")
    assert outside.read_text() == "mine"
    outside.unlink()


FORMER = replace(
    RECEIPT,
    analysis_sha256="4" * 64,
    analysed_at="2026-03-04T10:20:30+01:00",
    report=dict.fromkeys(("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"), "1.2"),
)


@pytest.mark.parametrize(
    ("former", "input_sha256", "analysis_sha256", "is_kept"),
    [
        (FORMER, "1" * 64, "4" * 64, True),
        (replace(FORMER, settings_sha256="9" * 64), "1" * 64, "4" * 64, True),
        (FORMER, "1" * 64, "5" * 64, False),
        (FORMER, "3" * 64, "4" * 64, False),
        (replace(FORMER, row={"status": "refused", "reason": "TRUNCATED"}), "1" * 64, "4" * 64, False),
        (replace(FORMER, analysed_at="2026-03-04T10:20:30"), "1" * 64, "4" * 64, False),
        (replace(FORMER, analysed_at="yesterday"), "1" * 64, "4" * 64, False),
        (None, "1" * 64, "4" * 64, False),
    ],
)
def test_the_first_time_of_the_same_analysis_is_recalled(
    monkeypatch: pytest.MonkeyPatch,
    former: Receipt | None,
    input_sha256: str,
    analysis_sha256: str,
    is_kept: bool,
) -> None:
    present = datetime(2027, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("pneumoseg.pipeline.results.receipts.now", lambda: present)
    history = history_of(former, input_sha256=input_sha256, analysis_sha256=analysis_sha256)
    assert history.analysed_at == (datetime(2026, 3, 4, 9, 20, 30, tzinfo=UTC) if is_kept else present)


@pytest.mark.parametrize("uid", ["../../x", "", "1.2." + "3" * 64, 12, None])
def test_a_report_with_a_forged_uid_is_not_recalled(uid: Any) -> None:
    forged = replace(FORMER, report={**(FORMER.report or {}), "SOPInstanceUID": uid})
    for former, report in ((FORMER, FORMER.report), (forged, None)):
        assert history_of(former, input_sha256="1" * 64, analysis_sha256="").report == report


def altered(output: Path, **changes: Any) -> None:
    path = receipt_path(output, "a")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


ROW = {"status": "segmented", "reason": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {"row": {}},
        {"row": None},
        {"row": {"status": "segmented"}},
        {"row": {"reason": ""}},
        {"row": {**ROW, "status": "fine"}},
        {"row": {**ROW, "reason": "BECAUSE"}},
        {"row": {**ROW, "reason": 1}},
        {"row": {**ROW, "components": 7}},
        {"row": {**ROW, "components": [1]}},
        {"row": {**ROW, "probability": [0.5]}},
        {"row": {**ROW, "probability": float("nan")}},
        {"row": {**ROW, "probability": float("inf")}},
        {"row": {**ROW, "name": "b"}},
        {"row": {**ROW, "name": "\0"}},
        {"row": {**ROW, "x" * 5000: 1}},
        {"outputs": {"masks/\0.png": "0" * 64}},
        {"outputs": {f"masks/{'x' * 5000}.png": "0" * 64}},
        {"outputs": {"masks/b.png": "0" * 64}},
        {"outputs": {"../a.png": "0" * 64}},
        {"outputs": {"masks/a.png": "0"}},
        {"outputs": {"masks/a.png": None}},
        {"outputs": []},
        {"input_sha256": "\0" * 64},
        {"input_sha256": 1},
        {"image": None},
        {"settings_sha256": None},
        {"format_version": "3"},
        {"analysed_at": 5},
        {"report": {"SOPInstanceUID": "1" * 5000}},
    ],
    ids=str,
)
def test_a_receipt_that_does_not_validate_counts_as_none(output: Path, changes: dict[str, Any]) -> None:
    altered(output)
    assert read_receipt(output, "a") == RECEIPT
    altered(output, **changes)
    assert read_receipt(output, "a") is None
    withdraw(output, "a")
    assert (output / "masks" / "a.png").exists()


def test_a_number_too_large_for_a_float_is_none_of_a_receipt(output: Path) -> None:
    path = receipt_path(output, "a")
    path.write_text(path.read_text().replace('"reason": ""', '"reason": "", "probability": 1e999'))
    assert read_receipt(output, "a") is None
