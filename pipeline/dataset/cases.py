"""Cases of a manifest as samples for the network, from their files or from the cache."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset, IterableDataset

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.dataset.manifest import Case, Manifest, image_path
from pneumoseg.pipeline.dataset.sampling import Draw
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.transforms.augmenter import Augmenter
from pneumoseg.transforms.labels.rle import RLEError
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError
from pneumoseg.transforms.square_input import StandardizeImage

Bytes = npt.NDArray[np.uint8]
Sample = dict[str, Any]
"""``image`` (standardised) and ``label`` (share of each pixel), float32 of shape ``(1, image_size, image_size)``, and
``index``, the index of the case in the manifest. Samples for evaluation also have ``content``, False for padding.
Samples for training are still to be augmented, in whole batches: they have ``pixels`` (uint8, grey and label), the
``numbers`` that `Augmenter` sampled, ``positive`` (1 with a pneumothorax, else 0) and ``phase`` instead."""

ACCEPT_ALL_KINDS: Final = AcceptanceFilters(any_modality=True, any_view=True, any_body_part=True)
"""Filters for the files of a manifest, which `prepare` has already checked."""


class FileCases(IterableDataset[Sample]):
    """Samples of cases read from their files by worker processes.

    Args:
        manifest: Manifest of the cases.
        manifest_path: Path of the manifest, the base of the image paths.
        indices: Indices of the cases in the manifest.
        chain: `evaluation_chain`, or `cache_chain` to build a cache.
        workers: Number of reading processes; 0 reads in this process, without protection from damaged files.
    """

    def __init__(
        self,
        manifest: Manifest,
        manifest_path: Path,
        indices: Sequence[int],
        *,
        chain: Compose,
        workers: int = 1,
    ) -> None:
        self.manifest = manifest
        self.manifest_path = manifest_path
        self.indices = indices
        self.chain = chain
        self.workers = workers

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in order.

        Raises: JobError: If a file has changed since the manifest was made.
        """
        cases = [self.manifest.training[index] for index in self.indices]
        paths = [image_path(self.manifest_path, case) for case in cases]
        with Readers(read_radiograph, acceptance=ACCEPT_ALL_KINDS, workers=self.workers) as readers:
            for index, case, path, read in zip(self.indices, cases, paths, readers.read(paths), strict=True):
                yield {**self._sample(case, path, read), "index": index}

    def _sample(self, case: Case, path: Path, read: Radiograph | RadiographError) -> Sample:
        if isinstance(read, RadiographError):
            raise JobError(
                f"{path}: {read}; were the images or the manifest moved? Run `pneumoseg prepare` again"
            )
        if read.file_sha256 != case.sha256:
            raise JobError(
                f"{path}: is not the file that the manifest was made from; run `pneumoseg prepare` anew"
            )
        try:
            sample = self.chain({"image": read, "label": case.label})
        except RLEError as error:
            raise JobError(f"label of {case.id}: {error}; run `pneumoseg prepare` anew") from None
        return {key: sample[key] for key in ("image", "label", "content") if key in sample}


class CachedCases(Dataset[Sample]):
    """Samples of cases from the cache.

    Args:
        cache: Memory map made by `open_cache`.
        cases: All cases of the manifest.
        indices: Indices of the cases in the manifest.
        augmenter: Augmentations, sampled for cases that are indexed by a `Draw`; None for evaluation.
    """

    def __init__(
        self,
        cache: Bytes,
        cases: Sequence[Case],
        indices: Sequence[int],
        augmenter: Augmenter | None = None,
    ) -> None:
        self.cache = cache
        self.indices = indices
        self.shapes = [cases[index].orientation.swap(cases[index].shape) for index in indices]
        # from the mask at its original size, since a small one may vanish at the network's size
        self.positive = [cases[index].is_positive for index in indices]
        self.augmenter = augmenter
        self.plain = StandardizeImage()

    def __getstate__(self) -> Sample:
        """Pickle the path of the cache for a loader worker, since a pickled memory map contains all pixels."""
        cache = self.cache
        return {
            **vars(self),
            "cache": (cache.filename, cache.shape) if isinstance(cache, np.memmap) else cache,
        }

    def __setstate__(self, state: Sample) -> None:
        """Open the memory map in a loader worker."""
        cache = state["cache"]
        if isinstance(cache, tuple):
            path, shape = cache
            cache = np.memmap(path, np.uint8, "r", shape=shape)
        vars(self).update(state, cache=cache)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int | Draw) -> Sample:
        """Return one case.

        Args:
            draw: `Draw` for an augmented training sample, or position within `indices` for an evaluation sample.
        """
        if isinstance(draw, Draw) and self.augmenter is not None:
            return self._sampled(draw, self.augmenter)
        place = draw.index if isinstance(draw, Draw) else draw
        index = self.indices[place]
        pair = torch.from_numpy(self.cache[index].astype(np.float32)).div_(255)
        sample = self.plain({"image": pair[:1], "label": pair[1:], "shape": self.shapes[place]})
        return {"index": index, **{key: sample[key] for key in ("image", "label", "content")}}

    def _sampled(self, draw: Draw, augmenter: Augmenter) -> Sample:
        index = self.indices[draw.index]
        return {
            # a copy, since a map of a file is read-only
            "pixels": torch.from_numpy(np.array(self.cache[index])),
            "numbers": torch.from_numpy(augmenter.sample(draw.seed, self.shapes[draw.index])),
            "positive": torch.tensor(float(self.positive[draw.index])),
            "index": index,
            "phase": draw.phase,
        }


class PhasedCases(Dataset[Sample]):
    """Cases at the resolutions of all phases; a `Draw` selects the phase.

    Args:
        phases: Cases at each resolution.
    """

    def __init__(self, phases: Sequence[CachedCases]) -> None:
        self.phases = phases

    def __len__(self) -> int:
        return len(self.phases[0])

    def __getitem__(self, draw: Draw) -> Sample:
        """Return one training sample.

        Args:
            draw: Case, seed and phase.
        """
        return self.phases[draw.phase][draw]
