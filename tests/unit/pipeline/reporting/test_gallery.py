from pathlib import Path

import pytest

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.reporting.content import Picture, Shown
from pneumoseg.pipeline.reporting.gallery import load_gallery, save_gallery

EXHIBIT = Shown("worst", "../../a case", {"Dice": "0.1"}, [Picture("truth", b"jpeg")])


def test_a_gallery_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    save_gallery(tmp_path, [EXHIBIT])
    (shown,) = load_gallery(tmp_path).cases
    assert shown == EXHIBIT


def test_the_name_of_a_case_is_no_part_of_a_path(tmp_path: Path) -> None:
    save_gallery(tmp_path / "in", [EXHIBIT])
    assert {path.name for path in (tmp_path / "in" / "gallery").iterdir()} == {"01-1.jpg", "gallery.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_of_an_earlier_gallery_stays(tmp_path: Path) -> None:
    save_gallery(tmp_path, [EXHIBIT, EXHIBIT])
    save_gallery(tmp_path, [])
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["gallery.json"]


def test_a_folder_without_a_gallery_shows_no_case(tmp_path: Path) -> None:
    assert len(load_gallery(tmp_path).cases) == 0


@pytest.mark.parametrize("content", ["{", "[1]", '[{"kind": "worst"}]', "3"])
def test_a_damaged_list_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    save_gallery(tmp_path, [EXHIBIT])
    (tmp_path / "gallery" / "gallery.json").write_text(content)
    with pytest.raises(JobError, match=r"gallery\.json: cannot be read"):
        load_gallery(tmp_path)


def test_a_picture_is_looked_for_in_the_gallery_only(tmp_path: Path) -> None:
    save_gallery(tmp_path, [EXHIBIT])
    listed = tmp_path / "gallery" / "gallery.json"
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    listed.write_text(listed.read_text().replace("01-1.jpg", "../secret.jpg"))
    with pytest.raises(JobError):
        load_gallery(tmp_path)
