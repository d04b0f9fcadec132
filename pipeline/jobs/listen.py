"""Receive studies from an archive or a modality, run the same code as `predict` on them, and send the results back."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pneumoseg.pipeline.core.console import say
from pneumoseg.pipeline.core.devices import resolve_device
from pneumoseg.pipeline.core.runtime import Runtime
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.pipeline.inference.passes import parse_tta
from pneumoseg.pipeline.jobs.predict import predict_folder
from pneumoseg.pipeline.model.operating_points import expectation
from pneumoseg.pipeline.pacs.config import ListenConfig, load_listen_config
from pneumoseg.pipeline.pacs.service import Analysed, ImageOutcome, Service
from pneumoseg.pipeline.reading.readers import Readers
from pneumoseg.pipeline.results.receipts import FOLDER, read_receipt
from pneumoseg.pipeline.results.settings import check_uid_root
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph


def listen_to_archive(
    config: str | Path | ListenConfig, *, on_ready: Callable[[], None] = lambda: None
) -> int:
    """Receive studies by C-STORE, segment them and send the results, until SIGINT or SIGTERM.

    Args:
        config: Configuration, or the path of its YAML file.
        on_ready: Called once as soon as associations are accepted.

    Returns: Number of the signal; all that was acknowledged is in the spool, and the next start continues with it.

    Raises:
        UsageError: If the configuration is not valid.
        JobError: If the model, the spool or a port cannot be used.
    """
    config = config if isinstance(config, ListenConfig) else load_listen_config(config)
    analysis = config.analysis
    check_uid_root(analysis.uid_root)
    if analysis.threads is not None:
        torch.set_num_threads(analysis.threads)
    options = ModelOptions(
        operating_point=analysis.operating_point, tta=parse_tta(analysis.tta), calibrated=analysis.calibrated
    )
    runtime = Runtime(device=analysis.device, batch_size=analysis.batch_size, workers=analysis.workers)
    model = load_model(analysis.model, resolve_device(analysis.device), options)
    if expected := expectation(model.description, model.objective):
        say(f"{analysis.model}: {expected}")
    acceptance = AcceptanceFilters.widened(
        any_view=analysis.any_view, any_modality=analysis.any_modality, any_body_part=analysis.any_body_part
    )
    readers = Readers(read_radiograph, acceptance=acceptance, workers=analysis.workers)

    def analyse(images: Path, results: Path, kinds: Sequence[str]) -> Analysed:
        predict_folder(
            analysis.model,
            images,
            results,
            kinds=kinds,
            options=options,
            runtime=runtime,
            acceptance=acceptance,
            uid_root=analysis.uid_root,
            model=model,
            readers=readers,
        )
        return _made_in(results)

    with readers:  # they serve all studies
        return Service(config, analyse).run(on_ready)


def _made_in(results: Path) -> Analysed:
    """List results and images of a study, of earlier analyses, too: what is complete there has been kept."""
    made: dict[str, str] = {}
    images: dict[str, ImageOutcome] = {}
    for path in sorted((results / FOLDER).glob("*.json")):
        receipt = read_receipt(results, path.stem)
        if receipt is not None:
            made |= {name: digest for name, digest in receipt.outputs.items() if name.endswith(".dcm")}
            images[receipt.image] = ImageOutcome(
                status=str(receipt.row["status"]),
                reason=str(receipt.row["reason"]),
                left_out=str(receipt.row.get("left_out") or ""),
            )
    return Analysed(made, images)
