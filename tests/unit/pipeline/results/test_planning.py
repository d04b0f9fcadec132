import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tests.conftest import SHAPE, write_radiograph

from pneumoseg.pipeline.reading.folders import find_radiographs, look_for_uids
from pneumoseg.pipeline.results.planning import Names, Part, Planned, content_sha256

PIXELS = np.zeros(SHAPE, dtype=np.uint8)
LIMIT = 2**20


def names(folder: Path, *, research: bool = False) -> list[str]:
    return [file.name for file in planned(folder, research=research)]


def planned(folder: Path, *, research: bool) -> list[Planned]:
    images = find_radiographs(folder).images
    return list(map(Names(folder, research=research, max_bytes=LIMIT).plan, images, look_for_uids(images)))


def test_results_are_called_by_the_uid_or_else_as_the_file(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", PIXELS, SOPInstanceUID="1.2.77")
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    (tmp_path / "c.dcm").write_bytes(b"broken")
    assert names(tmp_path) == ["1.2.77", "b", "c"]


def test_a_name_that_is_taken_gets_a_number_also_where_only_the_case_differs(tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.dcm", PIXELS, SOPInstanceUID="1.2.77")
    write_radiograph(tmp_path / "b.dcm", PIXELS, SOPInstanceUID="1.2.77")
    Image.fromarray(PIXELS).save(tmp_path / "c.png")
    Image.fromarray(PIXELS).save(tmp_path / "d-c.png")
    (tmp_path / "d-c.png").rename(tmp_path / "sub.C.png")
    (tmp_path / "C.dcm").write_bytes(b"broken")
    assert names(tmp_path) == ["C", "1.2.77", "1.2.77-2", "c-2", "sub.C"]


def test_files_of_one_name_in_several_folders_are_named_whatever_other_files_there_are(
    tmp_path: Path,
) -> None:
    for patient in "BC":
        (tmp_path / patient).mkdir()
        Image.fromarray(PIXELS).save(tmp_path / patient / "chest.png")
    before = names(tmp_path)
    digest = hashlib.sha256(b"B/chest").hexdigest()
    assert before[0] == f"B_chest-{digest[:12]}"
    (tmp_path / "A").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "A" / "chest.png")
    assert names(tmp_path)[1:] == before


def test_what_follows_the_last_point_of_a_name_is_kept_unless_it_is_a_suffix_of_an_image(
    tmp_path: Path,
) -> None:
    for name in ("1.2.77", "1.2.78.PNG"):
        Image.fromarray(PIXELS).save(tmp_path / name, "PNG")
    assert names(tmp_path) == ["1.2.77", "1.2.78"]


def test_for_research_a_file_without_uid_goes_by_its_content(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "Doe_John.png")
    os.mkfifo(tmp_path / "Doe.dcm")
    digest = hashlib.sha256((tmp_path / "Doe_John.png").read_bytes()).hexdigest()
    (fifo, file) = planned(tmp_path, research=True)
    assert (file.name, file.shown) == (f"content-{digest[:32]}", f"content-{digest[:32]}")
    assert (fifo.name, fifo.shown) == ("content-unknown", "content-unknown")


def test_what_is_too_large_or_no_file_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(100))
    assert content_sha256(tmp_path / "large", 99) is None
    assert content_sha256(tmp_path, LIMIT) is None
    assert content_sha256(tmp_path / "none", LIMIT) is None
    assert content_sha256(tmp_path / "large", 100) == hashlib.sha256(bytes(100)).hexdigest()


def test_each_file_is_of_one_part() -> None:
    files = [Planned(Path(str(n)), str(n), str(n)) for n in range(7)]
    parts = [Part(number, 3).of(files) for number in range(3)]
    assert sorted(file.name for part in parts for file in part) == [str(n) for n in range(7)]
    assert [len(part) for part in parts] == [3, 2, 2]
