import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.unit.pipeline.pacs.listeners import make_config, make_facts

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs import spool as spool_module
from pneumoseg.pipeline.pacs.spool import OtherContentError, Spool, SpoolFullError

RESULT = {"seg/1.2.1.dcm": "0" * 64}


def make_spool(folder: Path, **values: Any) -> Spool:
    return Spool(make_config(folder, **values))


def store(spool: Spool, number: int = 1, content: bytes = b"image", **facts: Any) -> str:
    return spool.store(content, make_facts(number, **facts), spool.rules["chest"], ae="CR1")


def test_a_stored_image_is_found_by_the_next_process(tmp_path: Path) -> None:
    with make_spool(tmp_path).opened():
        spool = make_spool(tmp_path)
    with spool.opened() as unusable:
        assert store(spool) == "new"
    again = make_spool(tmp_path)
    with again.opened() as unusable:
        (study,) = again.studies
        assert study.images == {"1.2.1.dcm": 5}
        assert (study.state.ae, study.state.send_to) == ("CR1", ("pacs",))
        assert (again.used_bytes, unusable) == (5, [])


def test_the_same_image_is_kept_once_and_another_one_with_its_uid_is_refused(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    with spool.opened():
        store(spool)
        assert store(spool) == "again"
        with pytest.raises(OtherContentError):
            store(spool, content=b"other")
        assert (spool.studies[0].folder / "images" / "1.2.1.dcm").read_bytes() == b"image"


def test_the_spool_is_bounded_and_complete_studies_make_room(tmp_path: Path) -> None:
    spool = make_spool(tmp_path, limits={"spool_gb": 8 / 2**30, "free_gb": 0})
    with spool.opened():
        store(spool)
        with pytest.raises(SpoolFullError, match=r"limits.spool_gb"):
            store(spool, 2, study_uid="1.3.2")
        (study,) = spool.studies
        study.note_analysis(study.images, {})
        assert store(spool, 2, study_uid="1.3.2") == "new"
        assert [each.folder.parent.name for each in spool.studies] == ["1.3.2"]
        assert not study.folder.parent.exists()


def test_a_disk_that_is_nearly_full_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(tmp_path, limits={"free_gb": 1e9})
    with spool.opened(), pytest.raises(SpoolFullError, match=r"limits.free_gb"):
        store(spool)


def test_an_image_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool(tmp_path)

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with spool.opened():
        store(spool)
        monkeypatch.setattr(spool_module, "sync_folder", fail)
        monkeypatch.setattr(Path, "write_bytes", lambda path, _: fail(path))
        with pytest.raises(OSError, match="No space"):
            store(spool, 2)
        assert list(spool.studies[0].images) == ["1.2.1.dcm"]
        assert [path.name for path in (spool.studies[0].folder / "images").iterdir()] == ["1.2.1.dcm"]


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    with spool.opened():
        store(spool)
        folder = spool.studies[0].folder
    (folder / "images" / ".writing-1234.dcm").write_bytes(b"half")
    (folder.parent / "other" / "images").mkdir(parents=True)  # killed before its first image
    with make_spool(tmp_path).opened():
        assert [path.name for path in folder.parent.iterdir()] == ["chest"]
        assert [path.name for path in (folder / "images").iterdir()] == ["1.2.1.dcm"]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"ae": 1}'])
def test_a_study_with_a_damaged_state_is_analysed_again(tmp_path: Path, damage: bytes) -> None:
    spool = make_spool(tmp_path)
    with spool.opened():
        store(spool)
        spool.studies[0].note_analysis(spool.studies[0].images, RESULT)
        (spool.studies[0].folder / "state.json").write_bytes(damage)
    again = make_spool(tmp_path, quiet_s=0)
    with again.opened() as unusable:
        (study,) = again.studies
        assert (study.is_due(0), unusable) == (True, [])


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    with (
        make_spool(tmp_path).opened(),
        pytest.raises(JobError, match="in use"),
        make_spool(tmp_path).opened(),
    ):
        pass


def test_complete_studies_are_removed_after_the_retention(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    with spool.opened():
        store(spool)
        spool.studies[0].note_analysis(spool.studies[0].images, RESULT)
        assert spool.remove_finished(older_than_s=0) == 0  # not sent yet
        spool.studies[0].acknowledge("pacs", *next(iter(RESULT.items())))
        spool.studies[0].change_delivery("pacs", committed=RESULT)
        assert spool.remove_finished() == 0  # a day has not passed
        assert spool.remove_finished(older_than_s=0) == 1
        assert (spool.studies, spool.used_bytes) == ([], 0)


def in_a_thread(what: Callable[[], object]) -> Thread:
    thread = Thread(target=what, daemon=True)
    thread.start()
    return thread


def test_images_arrive_while_complete_studies_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is being written when the cleaning begins: neither may wait for the other."""
    spool = make_spool(tmp_path)
    writing, cleaned = Event(), Event()

    def write(folder: Path) -> None:
        writing.set()
        cleaned.wait(10)

    with spool.opened():
        store(spool)
        monkeypatch.setattr(spool_module, "sync_folder", write)
        storing = in_a_thread(lambda: store(spool, 2))
        assert writing.wait(10)
        cleaning = in_a_thread(lambda: spool.remove_finished(older_than_s=0))
        cleaning.join(0.5)
        cleaned.set()
        storing.join(10)
        cleaning.join(10)
        assert (storing.is_alive(), cleaning.is_alive()) == (False, False)
        assert len(spool.studies[0].images) == 2


def test_a_study_that_somebody_has_deleted_is_received_anew(tmp_path: Path) -> None:
    spool = make_spool(tmp_path)
    with spool.opened():
        store(spool)
        shutil.rmtree(spool.studies[0].folder)
        storing = in_a_thread(lambda: store(spool, 2))
        storing.join(10)
        assert not storing.is_alive()
        assert (list(spool.studies[0].images), spool.used_bytes) == (["1.2.2.dcm"], 5)
