import io
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import measured_curves

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.out_of_fold import OUT_OF_FOLD, load_out_of_fold, save_out_of_fold


def found() -> list[CaseCurves]:
    """Three cases of a manifest, the second one negative."""
    generator = torch.Generator().manual_seed(0)
    curves = []
    for index in (7, 2, 11):
        probabilities = torch.rand(16, 16, generator=generator)
        label = torch.zeros(16, 16)
        if index != 2:
            label[:4] = 1
        curves.append(measured_curves(probabilities, label, index=index, image_probability=1 / index))
    return curves


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_out_of_fold(tmp_path / OUT_OF_FOLD, found())
    return tmp_path / OUT_OF_FOLD


def the_error(path: Path) -> str:
    with pytest.raises(JobError) as caught:
        load_out_of_fold(path)
    assert str(caught.value).startswith(f"{path}: cannot be read (")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_curves_come_back_in_their_order_to_the_number(path: Path) -> None:
    before, after = found(), load_out_of_fold(path)
    assert [case.index for case in after] == [7, 2, 11]
    for one, other in zip(before, after, strict=True):
        assert (one.label_area, one.pixels) == (other.label_area, other.pixels)
        np.testing.assert_array_equal(one.area, other.area)
        np.testing.assert_array_equal(one.overlap, other.overlap)
        assert one.image_probability == other.image_probability


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "No such file" in the_error(tmp_path / OUT_OF_FOLD)


def test_every_cut_of_the_file_is_an_error_of_one_line(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        the_error(path)


def test_a_byte_that_is_not_what_it_was_is_an_error_or_of_no_consequence(path: Path) -> None:
    content = path.read_bytes()
    errors = []
    for place in range(0, len(content), 23):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:  # a zip file has dates and flags that nobody reads
            after = load_out_of_fold(path)
        except JobError as error:
            errors.append(str(error))
        else:
            assert all(
                np.array_equal(one.area, other.area) for one, other in zip(found(), after, strict=True)
            )
    assert len(errors) > 50
    assert {len(error.splitlines()) for error in errors} == {1}


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x04."])
def test_what_is_no_archive_is_an_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    the_error(path)


def test_an_array_in_place_of_an_archive_is_an_error(path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    path.write_bytes(array.getvalue())
    the_error(path)


@pytest.mark.parametrize("name", ["index", "area", "overlap", "label_area", "pixels", "image_probability"])
def test_a_part_that_is_missing_or_too_short_is_an_error(path: Path, name: str) -> None:
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **{key: value for key, value in content.items() if key != name})
    assert name in the_error(path)
    np.savez(path, **{**content, name: content[name][:2]})
    the_error(path)


def test_objects_are_not_unpickled(path: Path) -> None:
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **{**content, "area": np.array([{}, {}, {}], dtype=object)})
    assert "allow_pickle=False" in the_error(path)
