"""Cache of decoded radiographs at the network's size, as bytes in a memory map.

A training run reads every image dozens of times; decoding it each time would take longer than the network on a GPU. The
key of the cache is the content of the files and the size, so that runs can share it and its pixels are never stale. A
file holds the records of all cases and then a checksum of each, over its pixels and what it was made from.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch

from pneumoseg.pipeline.core.claims import locked, remove_unfinished
from pneumoseg.pipeline.core.console import say
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, Bytes, FileCases
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.transforms.chains import cache_chain

_VERSION: Final = 3  # increment when the same files give other pixels
_CHECKSUM: Final = np.dtype("<u4")


def cache_folder(manifest_path: Path) -> Path:
    """Return the default cache folder of a manifest, which lies beside it so that pixels stay on the same disk.

    Args:
        manifest_path: Path of the manifest.
    """
    return manifest_path.with_name(f"{manifest_path.stem}.cache")


def open_cache(
    manifest: Manifest,
    manifest_path: Path,
    *,
    image_size: int,
    folder: Path,
    workers: int = 1,
    on_case: Callable[[], None] = lambda: None,
) -> Bytes:
    """Open the cache of a manifest; what does not exist or does not fit its checksum is decoded.

    One process at a time builds a cache; others wait for it.

    Args:
        manifest: Manifest, whose cases are the entries of the cache in order.
        manifest_path: Path of the manifest, the base of the image paths.
        image_size: Side of the network's square input in pixels.
        folder: Folder of the caches.
        workers: Number of decoding processes; 0 decodes in this process, without protection from damaged files.
        on_case: Callback after each decoded case.

    Returns: A read-only memory map of shape ``(cases, 2, image_size, image_size)``: image and label, the latter 255
        where the whole pixel is pneumothorax.
    Raises: JobError: If a file has changed since the manifest was made, or the disk is full.
    """
    cache = _Cache(folder, manifest, manifest_path, image_size)
    if cache.damaged():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, patience_s=-1):
                if damaged := cache.damaged():  # else another process has built it meanwhile
                    remove_unfinished(folder)
                    cache.build(damaged, workers=workers, on_case=on_case)
        except OSError as error:
            raise JobError(
                f"{folder}: the cache of {np.prod(cache.shape) / 1e6:.0f} MB could not be written "
                f"({error.strerror or error}); free some space or give --cache another folder"
            ) from None
    return cast("Bytes", cache.pixels())


class _Cache:
    """The file of a cache, which may be missing or damaged.

    Args:
        folder: Folder of the caches.
        manifest: Manifest, whose cases are the records in order.
        manifest_path: Path of the manifest, the base of the image paths.
        image_size: Side of the network's square input in pixels.
    """

    def __init__(self, folder: Path, manifest: Manifest, manifest_path: Path, image_size: int) -> None:
        self.path = folder / f"{_key(manifest, image_size)}.u8"
        self.manifest = manifest
        self.manifest_path = manifest_path
        self.image_size = image_size
        self.shape = (len(manifest.training), 2, image_size, image_size)
        self._seeds = [zlib.crc32(json.dumps(content).encode()) for content in _contents(manifest)]

    def pixels(self) -> Bytes | None:
        """Map the records; None if the file is not of their size."""
        size = int(np.prod(self.shape)) + len(self._seeds) * _CHECKSUM.itemsize
        if not self.path.is_file() or self.path.stat().st_size != size:
            return None
        return np.memmap(self.path, np.uint8, "r", shape=self.shape)

    def damaged(self) -> list[int]:
        """List the records that are missing, or do not fit their checksums."""
        pixels = self.pixels()
        if pixels is None:
            return list(range(len(self._seeds)))
        checksums = np.fromfile(self.path, _CHECKSUM, offset=pixels.size)
        records = zip(pixels, self._seeds, checksums, strict=True)
        return [
            index
            for index, (record, seed, checksum) in enumerate(records)
            if zlib.crc32(record, seed) != checksum
        ]

    def build(self, damaged: Sequence[int], *, workers: int, on_case: Callable[[], None]) -> None:
        """Write the file anew, with its whole records and the others decoded.

        Args:
            damaged: Indices of the records to decode.
            workers: Number of decoding processes; 0 decodes in this process.
            on_case: Callback after each decoded case.
        """
        before, is_damaged = self.pixels(), set(damaged)
        if self.path.exists():
            say(
                f"{self.path}: {len(damaged)} of {len(self._seeds)} cached images are damaged and are decoded again"
            )
        if self.path.is_dir():
            self.path.rmdir()
        chain = cache_chain(image_size=self.image_size, acceptance=ACCEPT_ALL_KINDS)
        decoded = iter(FileCases(self.manifest, self.manifest_path, damaged, chain=chain, workers=workers))
        checksums = []
        # a full disk raises an error for plain writes, but kills the process for a memory map
        with written_atomically(self.path) as temporary, temporary.open("wb") as file:
            for index, seed in enumerate(self._seeds):
                if before is None or index in is_damaged:
                    case = next(decoded)
                    pair = torch.cat([case["image"], case["label"]])
                    record = pair.mul(255).round().to(torch.uint8).numpy().tobytes()
                    on_case()
                else:
                    record = before[index].tobytes()
                file.write(record)
                checksums.append(zlib.crc32(record, seed))
            file.write(np.array(checksums, _CHECKSUM).tobytes())


def _key(manifest: Manifest, image_size: int) -> str:
    text = json.dumps([_VERSION, image_size, _contents(manifest)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _contents(manifest: Manifest) -> list[tuple[str, tuple[str, ...]]]:
    """List what each record is made from."""
    return [(case.sha256, case.label) for case in manifest.training]
