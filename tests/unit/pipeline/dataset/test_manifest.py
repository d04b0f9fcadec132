import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from monai.data import load_decathlon_datalist
from tests.conftest import Collection, make_case, make_manifest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.manifest import (
    image_path,
    manifest_schema,
    manifest_sha256,
    read_manifest,
    write_manifest,
)


def content_of(collection: Collection) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(collection.manifest_path.read_text(encoding="utf-8"))
    return content


def read_altered(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
    read_manifest(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = make_manifest(
        make_case(0, view="PA", age=58, spacing_mm=(0.14, 0.15), id="ä"),
        make_case(1, label=("3 4",), area_px=4),
    )
    write_manifest(tmp_path / "m.json", manifest)
    assert read_manifest(tmp_path / "m.json") == manifest


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_manifest(tmp_path / name, make_manifest(make_case(0), make_case(1)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_each_case_has_a_line_of_its_own(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.json", make_manifest(make_case(0), make_case(1)))
    lines = (tmp_path / "m.json").read_text().splitlines()
    assert [json.loads(line.strip().rstrip(","))["id"] for line in lines if "sha256\": \"00" in line and "id" in line
            and line.startswith("  ")] == ["case0", "case1"]  # fmt: skip


def test_monai_reads_its_cases(collection: Collection) -> None:
    cases = load_decathlon_datalist(
        str(collection.manifest_path), is_segmentation=False, data_list_key="training"
    )
    assert len(cases) == 12
    assert all(Path(case["image"]).is_file() for case in cases)
    assert sorted(bool(case["label"]) for case in cases) == [False] * 6 + [True] * 6


def test_the_file_validates_against_its_schema(collection: Collection) -> None:
    jsonschema.validate(content_of(collection), manifest_schema())


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())


def test_the_schema_refuses_an_unknown_key(collection: Collection) -> None:
    content = content_of(collection)
    content["training"][0]["patient_name"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="patient_name"):
        jsonschema.validate(content, manifest_schema())


def test_image_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    case = make_case(0, image="../images/a.dcm")
    assert image_path(tmp_path / "lists" / "m.json", case) == tmp_path / "images" / "a.dcm"


def test_the_fingerprint_does_not_depend_on_what_the_file_looks_like(
    collection: Collection, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps(content_of(collection)))
    assert manifest_sha256(read_manifest(tmp_path / "m.json")) == manifest_sha256(collection.manifest)


def test_the_fingerprint_changes_with_a_fold() -> None:
    one = make_manifest(make_case(0, fold=0), make_case(1, fold=1))
    other = make_manifest(make_case(0, fold=1), make_case(1, fold=1))
    assert manifest_sha256(one) != manifest_sha256(other)


def test_the_hash_depends_neither_on_the_name_nor_on_where_the_images_lie(collection: Collection) -> None:
    """A model that was trained elsewhere knows the images that it held out."""
    cases = collection.manifest.training
    moved = [case.model_copy(update={"image": f"../elsewhere/{case.image}"}) for case in cases]
    other = collection.manifest.model_copy(update={"training": tuple(moved), "name": "other"})
    assert manifest_sha256(other) == manifest_sha256(collection.manifest)
    refolded = [case.model_copy(update={"fold": 1 - case.fold}) for case in cases]
    assert manifest_sha256(
        collection.manifest.model_copy(update={"training": tuple(refolded)})
    ) != manifest_sha256(collection.manifest)


def test_a_group_in_two_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="group p is in two folds"):
        make_manifest(make_case(0, group="p", fold=0), make_case(1, group="p", fold=1))


def test_an_id_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="id a is listed twice"):
        make_manifest(make_case(0, id="a"), make_case(1, id="a"))


def test_a_fold_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="is in fold 2; the folds are 0 to 1"):
        make_manifest(make_case(0, fold=2))


def test_a_size_that_is_not_the_number_of_cases_is_refused(collection: Collection, tmp_path: Path) -> None:
    content = content_of(collection)
    content["training"].pop()
    with pytest.raises(JobError, match="size is 12, but 11 cases are listed"):
        read_altered(tmp_path / "m.json", content)


def test_a_manifest_of_another_release_is_an_error_that_says_so(
    collection: Collection, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match="format_version is 99"):
        read_altered(tmp_path / "m.json", {**content_of(collection), "format_version": 99})


@pytest.mark.parametrize("content", [[], {}, 3, None, "x"])
def test_other_json_is_an_error_of_one_line(tmp_path: Path, content: object) -> None:
    with pytest.raises(JobError, match="format_version is None") as caught:
        read_altered(tmp_path / "m.json", content)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 10**5, b"\xff\xfe", b"\x89PNG"])
def test_a_file_that_is_not_json_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(JobError, match="pneumoseg prepare") as caught:
        read_manifest(tmp_path / "m.json")
    assert len(str(caught.value).splitlines()) == 1


def test_a_bad_value_is_named_by_its_place(collection: Collection, tmp_path: Path) -> None:
    content = content_of(collection)
    content["training"][3]["sha256"] = "x"
    with pytest.raises(JobError, match=r"training\.3\.sha256") as caught:
        read_altered(tmp_path / "m.json", content)
    assert len(str(caught.value).splitlines()) == 1


def test_a_manifest_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere\.json: cannot be read \(No such file or directory\)"):
        read_manifest(tmp_path / "nowhere.json")


def test_a_case_is_positive_when_its_label_has_pixels() -> None:
    assert make_case(0, label=("3 4",), area_px=4).is_positive
    assert not make_case(0).is_positive


def test_the_cases_of_some_folds_are_listed_in_the_order_of_the_manifest() -> None:
    manifest = make_manifest(*(make_case(number, fold=fold) for number, fold in enumerate((1, 0, 1))))
    assert manifest.indices_in({1}) == [0, 2]
    assert manifest.indices_in({0, 1}) == [0, 1, 2]
