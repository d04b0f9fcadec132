from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import ScaleIntensityd
from monai.transforms.spatial.dictionary import Flipd

from pneumoseg.transforms.stored_pixels import DecodeRLEd, ToOriginalSized


def test_the_rows_of_an_image_become_one_mask_with_a_channel() -> None:
    sample = DecodeRLEd("label")({"label": ["2 3", "4 3"], "shape": (3, 4)})
    assert sample["label"].shape == (1, 3, 4)
    assert sample["label"][0].T.ravel().tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_no_row_becomes_an_empty_mask() -> None:
    assert DecodeRLEd("label")({"label": (), "shape": (3, 4)})["label"].sum() == 0


def test_the_sample_that_came_in_is_not_changed() -> None:
    sample: dict[Any, Any] = {"label": "2 3", "shape": (3, 4)}
    DecodeRLEd("label")(sample)
    assert sample == {"label": "2 3", "shape": (3, 4)}


def test_the_size_can_come_under_another_key() -> None:
    assert DecodeRLEd("label", shape_key="size")({"label": "-1", "size": [3, 4]})["label"].shape == (1, 3, 4)


def test_a_missing_label_is_an_error_unless_it_is_allowed() -> None:
    with pytest.raises(KeyError):
        DecodeRLEd("label")({"shape": (3, 4)})
    assert DecodeRLEd("label", allow_missing_keys=True)({"shape": (3, 4)}) == {"shape": (3, 4)}


def test_it_stands_in_a_chain_with_monais_own_transforms() -> None:
    chain = Compose([DecodeRLEd("label"), Flipd("label", spatial_axis=0), ScaleIntensityd("label", 0.0, 1.0)])
    mask = np.asarray(chain({"label": "2 3", "shape": (3, 4)})["label"][0])
    assert mask.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]


def test_the_original_size_is_read_from_the_sample() -> None:
    sample: dict[Any, Any] = {"pred": torch.ones(1, 32, 32), "size": (48, 20)}
    assert ToOriginalSized("pred", shape_key="size")(sample)["pred"].shape == (1, 48, 20)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.bool_])
def test_a_prediction_is_an_array_of_any_kind_and_becomes_float32(kind: type) -> None:
    half: Any = np.zeros((1, 2, 2), dtype=kind)
    half[0, 1] = 1
    found = ToOriginalSized("pred")({"pred": half, "shape": (4, 4)})["pred"]
    assert found.dtype == torch.float32
    assert found[0, :, 0].tolist() == [0, 0.25, 0.75, 1]  # bilinear, by hand
