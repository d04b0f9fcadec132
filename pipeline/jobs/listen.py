"""Receive studies from an archive or a modality, run the same code as `predict` on them, and send the results back."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pneumoseg.pipeline.core.console import say
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import Model, ModelOptions, load_model
from pneumoseg.pipeline.inference.passes import parse_tta
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.operating_points import expectation
from pneumoseg.pipeline.pacs.config import Analysis, ListenConfig, load_listen_config
from pneumoseg.pipeline.pacs.service import Analysed, Service
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.receipts import FOLDER, read_receipt
from pneumoseg.pipeline.results.settings import check_uid_root
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph


def listen_to_archive(
    config: str | Path | ListenConfig, *, on_ready: Callable[[], None] = lambda: None
) -> int:
    """Listen until SIGINT or SIGTERM.

    Args:
        config: Configuration, or the path of its YAML file.
        on_ready: Called once as soon as associations are accepted.

    Returns: Number of the signal; all that was acknowledged is in the spool, and the next start continues with it.

    Raises:
        UsageError: If the configuration is not valid.
        JobError: If the model, the spool or a port cannot be used.
    """
    config = config if isinstance(config, ListenConfig) else load_listen_config(config)
    check_uid_root(config.analysis.uid_root)
    if config.analysis.threads is not None:
        torch.set_num_threads(config.analysis.threads)
    options = ModelOptions(
        operating_point=config.analysis.operating_point,
        tta=parse_tta(config.analysis.tta),
        calibrated=config.analysis.calibrated,
    )
    model = load_model(config.analysis.model, resolve_device(config.analysis.device), options)
    if expected := expectation(model.description, model.objective):
        say(f"{config.analysis.model}: {expected}")
    acceptance = acceptance_of(config.analysis)
    readers = Readers(read_radiograph, acceptance=acceptance, workers=config.analysis.workers)

    def analyse(images: Path, results: Path, kinds: Sequence[str]) -> Analysed:
        return analyse_study(
            model, images, results, kinds, analysis=config.analysis, options=options, readers=readers
        )

    with readers:  # they serve all studies
        return Service(config, analyse).run(on_ready)


def acceptance_of(analysis: Analysis) -> AcceptanceFilters:
    """Make the acceptance filters of an analysis.

    Args:
        analysis: How to use the model.
    """
    return AcceptanceFilters.widened(
        any_view=analysis.any_view, any_modality=analysis.any_modality, any_body_part=analysis.any_body_part
    )


def analyse_study(
    model: Model,
    images: Path,
    results: Path,
    kinds: Sequence[str],
    *,
    analysis: Analysis,
    options: ModelOptions,
    readers: Readers[Radiograph] | None = None,
) -> Analysed:
    """Run `predict_folder` on the images of a study.

    Args:
        model: Loaded model.
        images: Folder of the images.
        results: Folder of the results, of an earlier call, too: what is complete there is kept.
        kinds: Kinds of DICOM results.
        analysis: How to use the model.
        options: The same, as the model was loaded with.
        readers: Decoding processes that serve all studies; None starts some for this one.

    Raises: JobError: If the results cannot be made now.
    """
    predict_folder(
        analysis.model,
        images,
        results,
        kinds=kinds,
        options=options,
        runtime=Runtime(device=analysis.device, batch_size=analysis.batch_size, workers=analysis.workers),
        acceptance=acceptance_of(analysis),
        uid_root=analysis.uid_root,
        model=model,
        readers=readers,
    )
    made: dict[str, str] = {}
    statuses: Counter[str] = Counter()
    for path in sorted((results / FOLDER).glob("*.json")):
        receipt = read_receipt(results, path.stem)
        if receipt is not None:
            made |= {name: digest for name, digest in receipt.outputs.items() if name.endswith(".dcm")}
            statuses[str(receipt.row["status"])] += 1
    return Analysed(made, statuses)
