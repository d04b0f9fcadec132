import os
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
    assert len(list(tmp_path.iterdir())) == 2


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
    assert len(list(tmp_path.iterdir())) == 1


def test_an_image_that_cannot_be_used_leaves_no_half_cache(tmp_path: Path) -> None:
    damaged = make_collection(tmp_path / "set")
    (damaged.images / "case09.dcm").unlink()
    with pytest.raises(JobError, match="case09"):
        open_cache(damaged.manifest, damaged.manifest_path, image_size=16, folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_an_error_of_one_line(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(JobError, match=r"could not be written.*No space left") as caught:
        open_cache(collection.manifest, collection.manifest_path, image_size=16, folder=tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_may_lie_elsewhere(collection: Collection, tmp_path: Path) -> None:
    elsewhere = tmp_path / "lists" / "m.json"
    cases = tuple(
        case.model_copy(update={"image": os.path.relpath(collection.folder / case.image, elsewhere.parent)})
        for case in collection.manifest.training
    )
    write_manifest(elsewhere, collection.manifest.model_copy(update={"training": cases}))
    manifest = collection.manifest.model_copy(update={"training": cases})
    assert open_cache(manifest, elsewhere, image_size=16, folder=tmp_path).shape[0] == 12
