import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Collection, draw_case, make_collection

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.cache import cache_folder, open_cache
from pneumoseg.pipeline.dataset.manifest import write_manifest

SIZE = 48


def test_it_lies_beside_the_manifest() -> None:
    assert cache_folder(Path("a/manifest.json")) == Path("a/manifest.cache")


def test_images_of_the_networks_size_are_kept_to_the_byte(collection: Collection, tmp_path: Path) -> None:
    pixels = open_cache(collection.manifest, collection.manifest_path, image_size=SIZE, folder=tmp_path)
    assert pixels.shape == (12, 2, SIZE, SIZE)
    assert pixels.dtype == np.uint8
    for number in range(12):
        image, mask = draw_case(number, positive=number < 6)
        np.testing.assert_array_equal(pixels[number, 0, :, 8:40], image)
        np.testing.assert_array_equal(pixels[number, 1, :, 8:40], mask * 255)
        assert not pixels[number, :, :, :8].any()


def test_it_is_a_memory_map_that_cannot_be_written_to(collection: Collection, tmp_path: Path) -> None:
    pixels = open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path)
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_it_is_made_once(collection: Collection, tmp_path: Path) -> None:
    decoded: list[int] = []
    for _ in range(2):
        open_cache(
            collection.manifest,
            collection.manifest_path,
            image_size=16,
            folder=tmp_path,
            on_case=lambda: decoded.append(1),
        )
    assert len(decoded) == 12


def test_another_size_is_another_cache(collection: Collection, tmp_path: Path) -> None:
    for size in (16, 32):
        pixels = open_cache(collection.manifest, collection.manifest_path, image_size=size, folder=tmp_path)
        assert pixels.shape[-1] == size
    assert len(list(tmp_path.glob("*.u8"))) == 2


def test_another_label_is_another_cache(collection: Collection, tmp_path: Path) -> None:
    manifest = collection.manifest
    first = manifest.training[0].model_copy(update={"label": (), "area_px": 0})
    changed = manifest.model_copy(update={"training": (first, *manifest.training[1:])})
    before = open_cache(manifest, collection.manifest_path, image_size=16, folder=tmp_path)
    after = open_cache(changed, collection.manifest_path, image_size=16, folder=tmp_path)
    assert before[0, 1].any()
    assert not after[0, 1].any()


def test_other_folds_share_the_cache(collection: Collection, tmp_path: Path) -> None:
    manifest = collection.manifest
    moved = tuple(case.model_copy(update={"fold": (case.fold + 1) % 3}) for case in manifest.training)
    for one in (manifest, manifest.model_copy(update={"training": moved})):
        open_cache(one, collection.manifest_path, image_size=16, folder=tmp_path)
    assert len(list(tmp_path.glob("*.u8"))) == 1


def test_an_image_that_cannot_be_used_leaves_no_half_cache(tmp_path: Path) -> None:
    damaged = make_collection(tmp_path / "set")
    (damaged.images / "case09.dcm").unlink()
    with pytest.raises(JobError, match="case09"):
        open_cache(damaged.manifest, damaged.manifest_path, image_size=16, folder=tmp_path / "cache")
    assert not [*(tmp_path / "cache").glob("*.u8"), *(tmp_path / "cache").glob(".writing*")]


def test_a_full_disk_is_an_error_of_one_line(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match=r"could not be written.*No space left") as caught:
        open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not [*tmp_path.glob("*.u8"), *tmp_path.glob(".writing*")]


def test_a_manifest_may_lie_elsewhere(collection: Collection, tmp_path: Path) -> None:
    elsewhere = tmp_path / "lists" / "m.json"
    cases = tuple(
        case.model_copy(update={"image": os.path.relpath(collection.folder / case.image, elsewhere.parent)})
        for case in collection.manifest.training
    )
    write_manifest(elsewhere, collection.manifest.model_copy(update={"training": cases}))
    manifest = collection.manifest.model_copy(update={"training": cases})
    assert open_cache(manifest, elsewhere, image_size=16, folder=tmp_path).shape[0] == 12


# --- damage

RECORD = 2 * 16 * 16  # bytes of a case


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def without_the_last_byte(content: bytes) -> bytes:
    return content[:-1]


def all_zeros(content: bytes) -> bytes:
    return bytes(len(content))


def one_record_zeros(content: bytes) -> bytes:
    return content[: 3 * RECORD] + bytes(RECORD) + content[4 * RECORD :]


def one_bit_flipped(content: bytes) -> bytes:
    place = 3 * RECORD + 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def a_bit_of_a_checksum_flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def the_record_of_another_image(content: bytes) -> bytes:
    return content[: 3 * RECORD] + content[:RECORD] + content[4 * RECORD :]


def two_images_exchanged(content: bytes) -> bytes:
    """With their checksums, as a cache of another order has them."""
    records = [content[place * RECORD :][:RECORD] for place in range(12)]
    checksums = [content[12 * RECORD + 4 * place :][:4] for place in range(12)]
    for each in (records, checksums):
        each[0], each[1] = each[1], each[0]
    return b"".join(records + checksums)


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        (truncated, 12),
        (emptied, 12),
        (without_the_last_byte, 12),
        (all_zeros, 12),
        (one_record_zeros, 1),
        (one_bit_flipped, 1),
        (a_bit_of_a_checksum_flipped, 1),
        (the_record_of_another_image, 1),
        (two_images_exchanged, 2),
        (None, 12),
    ],
)
def test_what_is_damaged_is_decoded_again_with_one_line_of_output(
    collection: Collection,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes] | None,
    count: int,
) -> None:
    decoded: list[int] = []

    def opened() -> bytes:
        pixels = open_cache(
            collection.manifest,
            collection.manifest_path,
            image_size=16,
            folder=tmp_path,
            workers=0,
            on_case=lambda: decoded.append(1),
        )
        return pixels.tobytes()

    expected = opened()
    (path,) = tmp_path.glob("*.u8")
    content = path.read_bytes()
    path.unlink()
    if damage is None:  # a folder in its place
        path.mkdir()
    else:
        path.write_bytes(damage(content))
    decoded.clear()
    capsys.readouterr()
    assert opened() == expected
    told = capsys.readouterr()
    assert (told.out.count("\n"), told.err) == (1, "")
    assert f"{count} of 12 cached images are damaged" in told.out
    assert len(decoded) == count
    assert path.read_bytes() == content
    assert opened() == expected
    assert capsys.readouterr().out == ""


def test_a_folder_with_files_in_the_place_of_a_cache_is_an_error_of_one_line(
    collection: Collection, tmp_path: Path
) -> None:
    open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path, workers=0)
    (path,) = tmp_path.glob("*.u8")
    path.unlink()
    path.mkdir()
    (path / "mine").touch()
    with pytest.raises(JobError, match="not empty") as caught:
        open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path, workers=0)
    assert len(str(caught.value).splitlines()) == 1
    assert (path / "mine").exists()


def test_what_a_killed_process_left_is_removed_when_a_cache_is_built(
    collection: Collection, tmp_path: Path
) -> None:
    (tmp_path / ".writing-0123.u8").touch()
    open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path, workers=0)
    assert not list(tmp_path.glob(".writing*"))
