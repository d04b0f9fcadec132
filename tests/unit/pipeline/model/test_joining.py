from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Collection, bright_pixel_network, write_model

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.description import EncoderOrigin, ModelDescription, read_description
from pneumoseg.pipeline.model.joining import join_models

ORIGIN = EncoderOrigin(weights="ImageNet", sha256="0" * 64, licence="Apache-2.0")


@pytest.fixture
def description(tmp_path: Path) -> ModelDescription:
    return read_description(write_model(tmp_path / "model", bright_pixel_network()))


def changed(description: ModelDescription, **network: Any) -> ModelDescription:
    return description.model_copy(update={"network": description.network.model_copy(update=network)})


def test_the_origin_of_an_encoder_goes_with_the_ensemble_whichever_member_has_it(
    description: ModelDescription, collection: Collection
) -> None:
    other = description.model_copy(update={"encoder_origin": ORIGIN})
    for pair in ([description, other], [other, description]):
        assert join_models(pair, collection.manifest).encoder_origin == ORIGIN
    assert join_models([description, description], collection.manifest).encoder_origin is None


def test_networks_that_differ_only_in_their_initialisation_join(
    description: ModelDescription, collection: Collection
) -> None:
    joined = join_models([description, changed(description, head_prior=0.02)], collection.manifest)
    assert len(joined.members) == 2
    with pytest.raises(UsageError, match="differ in their networks"):
        join_models([description, changed(description, image_head=True)], collection.manifest)
