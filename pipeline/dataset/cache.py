"""Cache of decoded radiographs at the network's size, as bytes in a memory map.

A training run reads every image dozens of times; decoding it each time would take longer than the network on a GPU. The
key of the cache is the content of the files and the size, so that runs can share it and its pixels are never stale.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import written_atomically
from pneumoseg.pipeline.dataset.cases import ACCEPT_ALL_KINDS, Bytes, FileCases
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.transforms.chains import cache_chain

_VERSION: Final = 2  # increment when the same files give other pixels


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
    """Open the cache of a manifest, and build it if it does not exist.

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
    path = folder / f"{_key(manifest, image_size)}.npy"
    if not path.exists():
        shape = (len(manifest.training), 2, image_size, image_size)
        chain = cache_chain(image_size=image_size, acceptance=ACCEPT_ALL_KINDS)
        cases = FileCases(
            manifest, manifest_path, range(len(manifest.training)), chain=chain, workers=workers
        )
        try:
            # a full disk raises an error for plain writes, but kills the process for a memory map
            with written_atomically(path) as temporary, temporary.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for case in cases:
                    pair = torch.cat([case["image"], case["label"]])
                    file.write(pair.mul(255).round().to(torch.uint8).numpy().tobytes())
                    on_case()
        except OSError as error:
            raise JobError(
                f"{folder}: the cache of {np.prod(shape) / 1e6:.0f} MB could not be written ({error.strerror}); "
                "free some space or give --cache another folder"
            ) from None
    cached: Bytes = np.load(path, mmap_mode="r")
    return cached


def _key(manifest: Manifest, image_size: int) -> str:
    content = [(case.sha256, case.label) for case in manifest.training]
    text = json.dumps([_VERSION, image_size, content])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
