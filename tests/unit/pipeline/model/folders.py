"""Model folders of tiny networks, and ways to damage them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, write_model

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import (
    CurvePoint,
    ObjectivePoint,
    OperatingPointSearch,
    TunedPoint,
    read_description,
)
from pneumoseg.pipeline.model.weights import make_network, save_weights

CPU = torch.device("cpu")
WEIGHTS = Path("weights") / "fold0.safetensors"
A, B, C = ("a" * 16, "b" * 16, "c" * 16)

WHOLE = TunedPoint(
    threshold=0.75,
    min_area_fraction=0.001,
    segmentation_threshold=0.375,
    image_threshold=0.125,
)


def tiny_network(seed: int) -> AttentionUNet:
    torch.manual_seed(seed)
    return make_network(TINY).eval()


def alter(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def the_error(folder: Path) -> str:
    with pytest.raises(JobError) as caught:
        load_model(folder, CPU)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def described_anew(folder: Path) -> None:
    """Let model.json describe the weights that are there."""
    member = json.loads((folder / "model.json").read_text())["members"][0]
    alter(folder, members=[{**member, "sha256": sha256_of(folder / WEIGHTS)}])


def write_pair(folder: Path) -> list[AttentionUNet]:
    """Write a model folder of two networks; returns them."""
    networks = [tiny_network(3), tiny_network(4)]
    write_model(folder, networks[0])
    member = save_weights(folder, networks[1], fold=1)
    description = read_description(folder)
    save_description(folder, description.model_copy(update={"members": (*description.members, member)}))
    return networks


def write_knowing(folder: Path) -> Path:
    """Write a model folder whose first member has seen the images B and C, and whose second one A and C."""
    write_pair(folder)
    description = read_description(folder)
    first, second = description.members
    save_description(
        folder,
        description.model_copy(
            update={
                "trained_on": description.trained_on.model_copy(update={"image_digests": (A, B, C)}),
                "members": (
                    first.model_copy(update={"unseen_digests": (A,)}),
                    second.model_copy(update={"unseen_digests": (B,)}),
                ),
            }
        ),
    )
    return folder


def searched(folder: Path) -> Path:
    """A model whose search found three points on a curve."""
    rows = [(0.25, 0.7, 1.0, 0.5), (0.5, 0.8, 0.8, 0.9), (0.75, 0.78, 0.6, 1.0)]
    decision = OperatingPointSearch(
        cases=20,
        objectives={"screening": ObjectivePoint(point=WHOLE, dice=0.7, sensitivity=1.0, specificity=0.5)},
        curve=tuple(
            CurvePoint(
                threshold=top, min_area_fraction=0.002, dice=dice, sensitivity=found, specificity=spared
            )
            for top, dice, found, spared in rows
        ),
        cross_fitted=None,
    )
    point = TunedPoint(threshold=0.5, min_area_fraction=0.0, segmentation_threshold=0.375)
    save_description(
        folder,
        read_description(folder).model_copy(
            update={"operating_point_search": decision, "operating_point": point}
        ),
    )
    return folder
