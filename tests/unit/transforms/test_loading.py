from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Flipd, Resized

from pneumoseg.transforms.labels.rle import encode_rle
from pneumoseg.transforms.loading import LoadRadiographd
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph
from pneumoseg.transforms.reader.reasons import RadiographError
from pneumoseg.transforms.square_input import ToNetworkSized
from pneumoseg.transforms.stored_pixels import DecodeRLEd, ToOriginalSized

WriteDicom = Callable[..., Path]
PIXELS = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)


def test_a_path_becomes_an_image_and_what_its_file_says(write_dicom: WriteDicom) -> None:
    sample = LoadRadiographd("image")({"image": write_dicom(PIXELS), "label": []})
    image = sample["image"]
    assert type(image) is torch.Tensor
    assert (image.shape, image.dtype) == ((1, 16, 24), torch.float32)
    assert (sample["shape"], sample["spacing_mm"], sample["view"]) == ((16, 24), (0.25, 0.25), "PA")
    assert sample["label"] == []


def test_a_radiograph_that_has_been_read_is_not_read_again(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS)
    radiograph = read_radiograph(path)
    plain = LoadRadiographd("image")({"image": path})
    path.unlink()
    sample = LoadRadiographd("image")({"image": radiograph})
    np.testing.assert_array_equal(sample["image"], plain["image"])
    assert sample["spacing_mm"] == plain["spacing_mm"]


def test_a_sample_holds_the_radiograph_only_on_request(write_dicom: WriteDicom) -> None:
    radiograph = read_radiograph(write_dicom(PIXELS))
    assert "radiograph" not in LoadRadiographd("image")({"image": radiograph})
    kept = LoadRadiographd("image", meta_prefix="{key}_", keep_radiograph=True)({"image": radiograph})
    assert kept["image_radiograph"] is radiograph


def test_monai_collates_samples_of_which_nothing_is_known(write_dicom: WriteDicom) -> None:
    unknown = {"PixelSpacing": None, "ViewPosition": None, "SOPInstanceUID": ""}
    paths = [write_dicom(PIXELS, name="a.dcm"), write_dicom(PIXELS, name="b.dcm", **unknown)]
    (batch,) = DataLoader(
        Dataset([{"image": path} for path in paths], LoadRadiographd("image")), batch_size=2
    )
    assert batch["image"].shape == (2, 1, 16, 24)
    assert [side.tolist() for side in batch["shape"]] == [[16, 16], [24, 24]]
    assert [side.isnan().tolist() for side in batch["spacing_mm"]] == [[False, True]] * 2
    assert batch["view"] == ["PA", ""]
    assert batch["sop_instance_uid"][1] == ""


def test_the_sample_that_came_in_is_left_alone(write_dicom: WriteDicom) -> None:
    given: dict[Hashable, Any] = {"image": str(write_dicom(PIXELS))}
    LoadRadiographd("image")(given)
    assert set(given) == {"image"}
    assert isinstance(given["image"], str)


def test_it_composes_with_stock_transforms(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS)
    chain = Compose([LoadRadiographd("image"), Flipd("image", spatial_axis=1)])
    plain = LoadRadiographd("image")({"image": path})["image"]
    flipped = chain({"image": path})["image"]
    np.testing.assert_array_equal(flipped, plain.flip(2))
    resized = Compose([LoadRadiographd("image"), Resized("image", (8, 8))])({"image": path})["image"]
    assert resized.shape == (1, 8, 8)


def test_two_images_keep_apart_what_their_files_say(write_dicom: WriteDicom) -> None:
    first, second = write_dicom(PIXELS, name="a.dcm"), write_dicom(PIXELS[:12], name="b.dcm")
    load = LoadRadiographd(("now", "before"), meta_prefix="{key}_")
    sample = load({"now": first, "before": second})
    assert (sample["now_shape"], sample["before_shape"]) == ((16, 24), (12, 24))
    with pytest.raises(ValueError, match="meta_prefix"):
        LoadRadiographd(("now", "before"))


def test_the_acceptance_filters_are_handed_on(write_dicom: WriteDicom) -> None:
    path = write_dicom(PIXELS, ViewPosition="LL")
    with pytest.raises(RadiographError, match="WRONG_VIEW"):
        LoadRadiographd("image")({"image": path})
    assert (
        LoadRadiographd("image", acceptance=AcceptanceFilters(any_view=True))({"image": path})["view"] == "LL"
    )


def test_an_image_is_upright_with_the_size_and_spacing_of_the_upright_image(write_dicom: WriteDicom) -> None:
    corner = np.zeros((16, 24), dtype=np.uint8)
    corner[0, 0] = 255
    turned = write_dicom(corner, PatientOrientation=["H", "L"], PixelSpacing=[0.5, 0.25])
    sample = LoadRadiographd("image")({"image": turned})
    assert (sample["shape"], sample["spacing_mm"], sample["orientation"]) == ((24, 16), (0.25, 0.5), "H\\L")
    assert sample["pixel_aspect"] == 0.5
    assert sample["image"].shape == (1, 24, 16)
    # rows lead to the head: at the feet
    assert np.argwhere(np.asarray(sample["image"][0])).tolist() == [[23, 0]]


def test_the_way_back_from_an_upright_image_ends_at_the_stored_pixels(write_dicom: WriteDicom) -> None:
    mask = np.zeros((16, 24), dtype=np.uint8)
    mask[2:5, 3:20] = 1
    given = {"image": write_dicom(255 * mask, PatientOrientation=["F", "R"]), "label": encode_rle(mask)}
    sample = Compose(
        [LoadRadiographd("image"), DecodeRLEd("label"), ToNetworkSized(("image", "label"), size=24)]
    )(given)
    np.testing.assert_array_equal(sample["label"], sample["image"])
    back = ToOriginalSized("label")(sample)["label"]
    np.testing.assert_array_equal(back[0], mask)
