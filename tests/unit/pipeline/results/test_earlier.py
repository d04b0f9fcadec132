from dataclasses import replace
from pathlib import Path

import pytest

from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.results.earlier import check_others, collect, keep_others, remove_others
from pneumoseg.pipeline.results.planning import Planned
from pneumoseg.pipeline.results.receipts import Receipt, receipt_path, write_receipt
from pneumoseg.pipeline.results.settings import Settings, make_settings
from pneumoseg.pipeline.results.tables import Receipts
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters


@pytest.fixture
def settings(model_folder: Path) -> Settings:
    model = load_model(model_folder, resolve_device("cpu"))
    return make_settings(
        ["csv"], acceptance=AcceptanceFilters(), research=False, batch_size=1, model=model, uid_root=None
    )


def put(folder: Path, name: str, settings: Settings, *, reason: str = "") -> Planned:
    """Write a file and the receipt that another run has left of it."""
    path = folder / f"{name}.dcm"
    path.write_text(name)
    receipt = Receipt(
        image=path.name,
        input_sha256=sha256_of(path),
        settings_sha256=settings.sha256,
        row={"status": "refused" if reason else "segmented", "reason": reason},
    )
    write_receipt(folder, name, receipt)
    return Planned(path, path.name, name)


def test_receipts_of_other_runs_are_taken_while_their_files_are_the_same(
    tmp_path: Path, settings: Settings
) -> None:
    planned = [put(tmp_path, name, settings) for name in "ab"]
    own = {planned[0].path}
    assert collect(tmp_path, planned, settings, own=own) is not None
    planned[0].path.write_text("checked by this run")
    assert collect(tmp_path, planned, settings, own=own) is not None
    planned[1].path.write_text("changed")
    assert collect(tmp_path, planned, settings, own=own) is None
    planned[1].path.unlink()
    assert collect(tmp_path, planned, settings, own=own) is None


@pytest.mark.parametrize(("reason", "is_duplicate"), [("", True), ("DUPLICATE_UID", False)])
def test_what_another_run_took_for_a_duplicate_or_not_has_to_be_one_still_or_none(
    tmp_path: Path, settings: Settings, reason: str, is_duplicate: bool
) -> None:
    file = put(tmp_path, "b", settings, reason=reason)
    for duplicates in ([], [file.path]):
        found = collect(tmp_path, [file], settings, own=(), duplicates=duplicates)
        assert (found is None) == (bool(duplicates) == is_duplicate)


def test_results_of_other_files_may_be_of_another_runtime_but_not_of_another_model(
    tmp_path: Path, settings: Settings
) -> None:
    put(tmp_path, "gone", settings)
    check_others(tmp_path, [], replace(settings, runtime="openvino"))
    with pytest.raises(UsageError, match="results of 1 files that are gone"):
        check_others(tmp_path, [], replace(settings, model_sha256="0" * 64))


def test_a_receipt_of_another_path_is_none_of_this_file(tmp_path: Path, settings: Settings) -> None:
    file = put(tmp_path, "a", settings)
    assert collect(tmp_path, [replace(file, shown="other.dcm")], settings, own={file.path}) is None


def test_results_of_other_files_are_kept_and_those_of_the_same_file_are_replaced(
    tmp_path: Path, settings: Settings
) -> None:
    planned = [put(tmp_path, "a", settings)]
    for name in "cb":
        put(tmp_path, name, settings)
    earlier = Receipt(
        image="a.dcm",
        input_sha256="0" * 64,
        settings_sha256=settings.sha256,
        row={"status": "segmented", "reason": ""},
    )
    refused = replace(
        earlier,
        image="copy.dcm",
        input_sha256=sha256_of(planned[0].path),
        row={"status": "refused", "reason": "DUPLICATE_UID"},
    )
    write_receipt(tmp_path, "earlier", earlier)
    write_receipt(tmp_path, "refused", refused)
    receipt_path(tmp_path, ".writing-0123").write_text("{")
    receipt_path(tmp_path, "damaged").write_text("{")
    kept = keep_others(Receipts(tmp_path, planned), settings)
    assert [(file.name, file.shown) for file in kept] == [("b", "b.dcm"), ("c", "c.dcm")]
    assert {path.stem for path in (tmp_path / "receipts").iterdir()} == {
        "a",
        "b",
        "c",
        ".writing-0123",
        "damaged",
    }
    remove_others(tmp_path, planned)
    assert {path.stem for path in (tmp_path / "receipts").iterdir()} == {"a", ".writing-0123", "damaged"}
