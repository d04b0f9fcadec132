"""Runs, files, devices and the command line.

Every job is one call: `prepare_manifest`, `train_model`, `evaluate_model`, `write_submission`, `score_submission`,
`predict_folder`, `write_report`, `check_folder`, `doctor_report`, `run_demo`; `load_predictor` gives a model that takes
single radiographs, and `Readers` reads files in processes of their own. Names are looked up when they are first used,
for MONAI takes seconds to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumoseg.pipeline.jobs.check import check_folder as check_folder
    from pneumoseg.pipeline.core.config import TrainConfig as TrainConfig
    from pneumoseg.pipeline.core.config import load_config as load_config
    from pneumoseg.pipeline.jobs.demo import run_demo as run_demo
    from pneumoseg.pipeline.jobs.describe import describe_model as describe_model
    from pneumoseg.pipeline.jobs.doctor import doctor_report as doctor_report
    from pneumoseg.pipeline.core.errors import JobError as JobError
    from pneumoseg.pipeline.core.errors import UsageError as UsageError
    from pneumoseg.pipeline.jobs.evaluate import evaluate_model as evaluate_model
    from pneumoseg.pipeline.model.folder import load_model as load_model
    from pneumoseg.pipeline.inference.segmentation import load_predictor as load_predictor
    from pneumoseg.pipeline.jobs.predict import predict_folder as predict_folder
    from pneumoseg.pipeline.jobs.prepare import prepare_manifest as prepare_manifest
    from pneumoseg.pipeline.reading.readers import Readers as Readers
    from pneumoseg.pipeline.jobs.report import write_report as write_report
    from pneumoseg.pipeline.jobs.score import score_submission as score_submission
    from pneumoseg.pipeline.jobs.submit import write_submission as write_submission
    from pneumoseg.pipeline.jobs.train import train_model as train_model

_HOME = {
    "JobError": "errors",
    "Readers": "reading.readers",
    "TrainConfig": "config",
    "UsageError": "errors",
    "check_folder": "check",
    "describe_model": "describe",
    "doctor_report": "doctor",
    "evaluate_model": "evaluate",
    "load_config": "config",
    "load_model": "inference.model_folder",
    "load_predictor": "inference.segmentation",
    "predict_folder": "predict",
    "prepare_manifest": "prepare",
    "run_demo": "demo",
    "score_submission": "score",
    "train_model": "train",
    "write_report": "report",
    "write_submission": "submit",
}
__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, made from the one table of names)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
