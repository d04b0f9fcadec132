from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.json_files import read_validated_json


class Plain(BaseModel):
    number: int


class Versioned(Plain):
    format_version: Literal[3] = 3


def the_error(path: Path, content: bytes, schema: type[BaseModel]) -> str:
    path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        read_validated_json(path, schema, advice="write it anew")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; write it anew")
    assert len(message.splitlines()) == 1
    return message


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    with pytest.raises(JobError) as caught:
        read_validated_json(path, Plain, advice="write it anew")
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory); write it anew"


def test_content_that_fits_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_text('{"format_version": 3, "number": 7}')
    assert read_validated_json(path, Versioned, advice="").number == 7


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 10**5, b"\xff\xfe"])
def test_what_is_not_json_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    assert "is not JSON (" in the_error(tmp_path / "content.json", content, Plain)


@pytest.mark.parametrize(
    ("content", "found"), [(b"[]", "None"), (b'{"number": 7}', "None"), (b'{"format_version": 4}', "4")]
)
def test_another_format_version_is_named_beside_the_one_that_is_read(
    tmp_path: Path, content: bytes, found: str
) -> None:
    message = the_error(tmp_path / "content.json", content, Versioned)
    assert f"format_version is {found}; this release reads 3" in message


def test_a_schema_without_a_version_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_text('{"number": 7}')
    assert read_validated_json(path, Plain, advice="").number == 7


@pytest.mark.parametrize(("content", "where"), [(b'{"number": "x"}', "number: "), (b"[]", "content: ")])
def test_a_value_that_does_not_fit_is_named_by_its_place(tmp_path: Path, content: bytes, where: str) -> None:
    assert where in the_error(tmp_path / "content.json", content, Plain)
