"""Configurations and images for tests of the listener's parts."""

from pathlib import Path
from typing import Any

from pneumoseg.pipeline.pacs.config import ListenConfig
from pneumoseg.pipeline.pacs.rules import ImageFacts

CONTENT: dict[str, Any] = {
    "peers": [{"ae_title": "CR1", "address": "10.0.0.0/24"}],
    "destinations": {"pacs": {"protocol": "dicom", "ae_title": "PACS", "host": "localhost", "port": 104}},
    "rules": [{"name": "chest", "send_to": "pacs"}],
    "analysis": {"model": "model"},
    "limits": {"free_gb": 0},
    "retry": {"first_s": 1, "longest_s": 4},
}


def make_config(folder: Path, **values: Any) -> ListenConfig:
    return ListenConfig.model_validate({**CONTENT, "spool": str(folder / "spool"), **values})


def make_facts(number: int = 1, **values: Any) -> ImageFacts:
    return ImageFacts(
        **{
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
            "sop_instance_uid": f"1.2.{number}",
            "study_uid": "1.3.1",
            "series_uid": "1.3.1.1",
            "modality": "DX",
            "view": "PA",
            "body_part": "CHEST",
            "study_description": "Thorax of today",
            "manufacturer": "Maker of detectors",
            **values,
        }
    )
