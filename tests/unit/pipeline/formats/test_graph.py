from pathlib import Path

import pytest
import torch

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.formats.graph import InferenceGraph
from pneumoseg.pipeline.inference.model import ModelOptions, load_model
from pneumoseg.transforms.square_input import StandardizeImage

CPU = torch.device("cpu")


def test_a_graph_standardises_by_the_pixels_that_are_not_padding(model_folder: Path) -> None:
    model = load_model(model_folder, CPU)
    image = torch.zeros(1, 48, 48)
    image[:, 12:36] = torch.rand(1, 24, 48)  # an image of 24 x 48 pixels in the square
    prepared = StandardizeImage()({"image": image, "shape": (24, 48)})
    own = prepared["content"][None]
    expected = model.predictor.predict_batch(prepared["image"][None], own)
    with_greys = InferenceGraph(model, standardizes=True)(image[None], own.float())
    standardised = InferenceGraph(model, standardizes=False)(prepared["image"][None], own.float())
    for found in (with_greys, standardised):
        torch.testing.assert_close(found[0], expected.probabilities)
        torch.testing.assert_close(found[1], expected.image_probability)


def test_an_image_of_one_grey_has_finite_probabilities(model_folder: Path) -> None:
    graph = InferenceGraph(load_model(model_folder, CPU), standardizes=True)
    flat = torch.full((1, 1, 48, 48), 0.5)
    assert all(output.isfinite().all() for output in graph(flat, torch.ones_like(flat)))


def test_resizing_test_time_augmentation_is_refused(model_folder: Path) -> None:
    model = load_model(model_folder, CPU, ModelOptions(tta=("scale",)))
    with pytest.raises(UsageError, match="flip or none"):
        InferenceGraph(model, standardizes=True)
