import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

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
    input_sha256="1" * 64,
    settings_sha256="2" * 64,
    row={"status": "segmented", "sentence": "é"},
    outputs={"masks/a.png": hashlib.sha256(b"mask").hexdigest()},
)


def valid(output: Path, *, input_sha256: str | None = "1" * 64, settings_sha256: str = "2" * 64) -> bool:
    receipt = read_receipt(output, "a")
    return is_valid(receipt, output, hash_input=lambda: input_sha256, settings_sha256=settings_sha256)


def test_a_receipt_can_be_read_back(output: Path) -> None:
    assert read_receipt(output, "a") == RECEIPT
    assert valid(output)


def test_a_receipt_is_of_one_input_and_of_one_set_of_settings(output: Path) -> None:
    assert not valid(output, input_sha256="3" * 64)
    assert not valid(output, input_sha256=None)
    assert not valid(output, settings_sha256="3" * 64)


def test_an_input_without_a_result_of_these_settings_is_not_hashed(output: Path) -> None:
    def hash_input() -> str:
        raise AssertionError("hashed")

    for receipt in (None, replace(RECEIPT, row={"status": "refused"}), replace(RECEIPT, settings_sha256="3")):
        assert not is_valid(receipt, output, hash_input=hash_input, settings_sha256="2" * 64)


def test_a_receipt_vouches_for_each_byte(output: Path) -> None:
    (output / "masks" / "a.png").write_bytes(b"mosk")
    assert not valid(output)
    (output / "masks" / "a.png").unlink()
    assert not valid(output)


def test_what_was_refused_is_tried_again(output: Path) -> None:
    write_receipt(output, "a", replace(RECEIPT, row={"status": "refused"}, outputs={}))
    assert not valid(output)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format_version": 2}', "[" * 100_000, '{"row": 1}', "\xff"]
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
        (replace(FORMER, row={"status": "refused"}), "1" * 64, "4" * 64, False),
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
