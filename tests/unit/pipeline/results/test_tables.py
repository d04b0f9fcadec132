from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import write_json
from pneumoseg.pipeline.results.planning import Planned
from pneumoseg.pipeline.results.receipts import Receipt, receipt_path, write_receipt
from pneumoseg.pipeline.results.tables import Receipts, write_json_list

ROW = {"status": "segmented", "reason": ""}
PLANNED = [Planned(Path(f"{name}.dcm"), f"{name}.dcm", name) for name in "abc"]


@pytest.fixture
def receipts(tmp_path: Path) -> Receipts:
    """Of three files that the tables call by their numbers."""
    for number, file in enumerate(PLANNED):
        receipt = Receipt(
            image=file.shown, input_sha256="0" * 64, settings_sha256="1" * 64, row={**ROW, "number": number}
        )
        write_receipt(tmp_path, file.name, receipt)
    return Receipts(tmp_path, PLANNED)


def test_receipts_are_those_of_the_files_in_their_order(receipts: Receipts) -> None:
    for _ in range(2):  # they can be read again
        assert [receipt.row["number"] for receipt in receipts] == [0, 1, 2]


def test_they_are_read_when_they_are_looked_at(receipts: Receipts, tmp_path: Path) -> None:
    looked_at = iter(receipts)
    next(looked_at)
    write_receipt(
        tmp_path,
        "b",
        Receipt(image="b.dcm", input_sha256="0" * 64, settings_sha256="1" * 64, row={**ROW, "number": 5}),
    )
    assert next(looked_at).row == {**ROW, "number": 5}


def test_one_that_has_gone_is_named(receipts: Receipts, tmp_path: Path) -> None:
    receipt_path(tmp_path, "b").unlink()
    with pytest.raises(JobError, match=r"b\.json is gone"):
        list(receipts)


@pytest.mark.parametrize("items", [[], [1], [{"a": "x\ny\u2028", "b": []}, {"c": {"d": [1, 2]}}, "]\n}"]])
def test_a_list_that_is_written_item_by_item_has_the_bytes_of_the_whole(
    tmp_path: Path, items: list[object]
) -> None:
    head = {"number": 1, "nested": {"list": []}}
    write_json(tmp_path / "whole.json", {**head, "images": items})
    write_json_list(tmp_path / "streamed.json", head, "images", iter(items))
    assert (tmp_path / "streamed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
