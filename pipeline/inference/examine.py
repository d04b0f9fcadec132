"""Detailed inference on a few radiographs, with uncertainty and attention maps."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.inference.segment import NotRead, segment_files
from pneumoseg.pipeline.inference.segmentation import ModelPredictor, Segmentation
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters

PASSES: Final = 8
"""Monte-Carlo dropout samples: enough to see where the network is uncertain."""


def examine_files(
    model: Model, paths: Sequence[Path], *, acceptance: AcceptanceFilters, workers: int = 1
) -> Iterator[Segmentation | NotRead]:
    """Segment a few files with their attention maps and, where the networks have dropout, standard deviations.

    All results are held in memory, and nothing else may run the networks meanwhile.

    Args:
        model: Model to apply, with its own settings.
        paths: Paths of the radiographs; results keep their order, and a file that is not read gives its reason.
        acceptance: Which files are accepted as frontal chest radiographs.
        workers: Number of decoding processes; 0 decodes in this process, without protection from damaged files.
    """
    results = list(
        segment_files(model, paths, acceptance=acceptance, batch_size=1, workers=workers, attention=True)
    )
    needs_samples = not model.dropout_passes and model.predictor.has_dropout
    sampling = ModelPredictor(replace(model, dropout_passes=PASSES)) if needs_samples else None
    for result in results:
        if sampling is None or isinstance(result, NotRead):
            yield result
        else:
            sampled = sampling.predict(result.radiograph)
            yield replace(result, pixel_std=sampled.pixel_std, image_std=sampled.image_std)
