"""Writer of a model as a MONAI Bundle.

Source: the MONAI Bundle Specification, https://docs.monai.io/en/latest/mb_specification.html.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch

from pneumoseg.pipeline.core.files import write_json, write_text, written_atomically
from pneumoseg.pipeline.inference.model import Model
from pneumoseg.pipeline.model.card import write_card
from pneumoseg.pipeline.model.description import ModelDescription

METADATA: Final = "configs/metadata.json"
WEIGHTS: Final = "models/model.pt"
CONFIGS: Final = ("inference", "train", "evaluate")
_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_PACKAGES: Final = ("pneumoseg", "pytorch-ignite", "pydicom", "pillow", "pydantic", "safetensors")


def write_bundle(model: Model, folder: Path) -> None:
    """Write a model as a MONAI Bundle, whose configurations use the transforms and the network of this package.

    Args:
        model: Model.
        folder: Folder of the bundle; files in it are replaced.
    """
    template = files("pneumoseg.pipeline.formats.bundle") / "template"
    for name in ("configs/logging.conf", "docs/README.md"):
        write_text(folder / name, template.joinpath(name).read_text(encoding="utf-8"))
    values = _values(model)
    for name in CONFIGS:
        config = json.loads(template.joinpath(f"configs/{name}.json").read_text(encoding="utf-8"))
        own = {} if name == "evaluate" else values  # it is read after train.json, which has them
        write_json(folder / f"configs/{name}.json", own | config)
    write_json(folder / METADATA, describe_bundle(model))
    write_card(folder / "docs", model.description)
    write_text(folder / "LICENSE", distribution("pneumoseg").read_text("licenses/LICENSE") or "Apache-2.0\n")
    state = {
        f"networks.{index}.{name}": value.detach().cpu().contiguous()
        for index, network in enumerate(model.networks)
        for name, value in network.state_dict().items()
    }
    with written_atomically(folder / WEIGHTS) as temporary:
        torch.save(state, temporary)


def _values(model: Model) -> dict[str, Any]:
    """Return the values of a model that the configurations refer to by name."""
    return {
        "network_config": model.description.network.model_dump(mode="json", exclude={"encoder_weights"}),
        "members": len(model.networks),
        "tta": list(model.tta),
        "precision": model.description.precision,
        "image_size": model.image_size,
        "operating_point": asdict(model.operating_point),
    }


def describe_bundle(model: Model) -> dict[str, Any]:
    """Describe a model as the bundle's ``metadata.json`` does.

    Args:
        model: Model.
    """
    description = model.description
    shape = [model.image_size, model.image_size]
    return {
        "schema": _SCHEMA,
        "version": version("pneumoseg"),
        "changelog": {version("pneumoseg"): "exported by pneumoseg"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in _PACKAGES},
        "supported_apps": {},
        "name": "Pneumothorax segmentation",
        "task": "Segmentation of pneumothorax on frontal chest radiographs",
        "description": "Attention U-Net that finds and outlines pneumothorax on chest radiographs. "
        "Research use only; not for diagnosis.",
        "authors": "The pneumoseg developers",
        "copyright": "Copyright (c) The pneumoseg developers",
        "data_source": description.trained_on.manifest,
        "data_type": "dicom",
        "image_classes": "frontal chest radiograph, greys standardised by mean and standard deviation",
        "label_classes": "1 is pneumothorax, 0 is background",
        "pred_classes": "channel 0 is the probability of a pneumothorax at each pixel, channel 1 that of the image",
        "eval_metrics": _scores(description),
        "intended_use": "Research; not a medical device, and not for diagnosis.",
        "references": ["Oktay et al. Attention U-Net. 2018. https://arxiv.org/abs/1804.03999"],
        "network_data_format": {
            "inputs": {
                "image": _array(shape, ("radiograph, standardised", "1 for the image, 0 for padding"), [])
            },
            "outputs": {
                "pred": _array(shape, ("probability of a pneumothorax", "the same of the image"), [0, 1])
            },
        },
    }


def _array(shape: list[int], channels: Sequence[str], value_range: list[int]) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "X-ray",
        "num_channels": len(channels),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": False,
        "channel_def": {str(index): meaning for index, meaning in enumerate(channels)},
    }


def _scores(description: ModelDescription) -> dict[str, float]:
    """Return the validation scores that were measured; those on the fold that the operating point was tuned on."""
    named = {"dice": "mean_dice", "auc": "auc", "sensitivity": "sensitivity", "specificity": "specificity"}
    found = {key: description.validation.get(name) for name, key in named.items()}
    return {key: score for key, score in found.items() if score is not None}
