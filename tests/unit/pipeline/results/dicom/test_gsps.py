import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask
from tests.conftest import SHAPE, write_radiograph
from tests.unit.pipeline.results.dicom.conftest import (
    ACCEPTANCE,
    BARE,
    KINDS,
    OPTIONAL,
    ORIGIN,
    complaints,
    make_mask,
    saved,
)

from pneumoseg.pipeline.results.dicom.gsps import make_gsps
from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, read_source
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph

LINES = ["No pneumothorax was found.", "Not for diagnosis."]
RAMP = (np.arange(SHAPE[0] * SHAPE[1]) % 256).astype(np.uint8).reshape(SHAPE)


def present(
    folder: Path, mask: NDArray[np.uint8] | None = None, pixels: NDArray[np.uint8] = RAMP, **elements: Any
) -> tuple[Any, Radiograph]:
    """A presentation state, and the radiograph that it presents."""
    path = write_radiograph(folder / "source.dcm", pixels, **elements)
    radiograph = read_radiograph(path, acceptance=ACCEPTANCE)
    source = read_source(radiograph)
    mask = np.zeros(radiograph.shape, dtype=np.uint8) if mask is None else mask
    return make_gsps(source, radiograph, mask, LINES, ORIGIN), radiograph


def table(first: int, entries: NDArray[np.integer[Any]], **elements: Any) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("kind", ["CR", "DX", "SC"])
def test_a_presentation_state_is_valid(tmp_path: Path, kind: str, optional: bool, positive: bool) -> None:
    sop_class, modality = KINDS[kind]
    state, _ = present(
        tmp_path,
        make_mask(positive=positive),
        **{"SOPClassUID": sop_class, "Modality": modality, **(OPTIONAL if optional else BARE)},
    )
    path = saved(tmp_path, state)
    assert complaints(path) == []
    assert b"SECRET" not in path.read_bytes()


def test_it_refers_to_its_source_and_carries_the_text(tmp_path: Path) -> None:
    state, _ = present(tmp_path, make_mask(positive=True))
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.5"
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    (annotation,) = state.GraphicAnnotationSequence
    assert annotation.TextObjectSequence[0].UnformattedTextValue.split("\r\n") == LINES


def test_each_component_has_a_closed_outline_that_encloses_its_pixels(tmp_path: Path) -> None:
    state, _ = present(tmp_path, make_mask(positive=True))
    filled, identifiers = np.zeros(SHAPE, dtype=bool), []
    for graphic in state.GraphicAnnotationSequence[0].GraphicObjectSequence:
        assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
        identifiers.append(graphic.TrackingID)
        line = np.array(graphic.GraphicData).reshape(-1, 2)
        np.testing.assert_array_equal(line[0], line[-1])
        filled |= polygon2mask(SHAPE, line[:, ::-1] - 0.5)  # its pixel centres are whole numbers
    expected = make_mask(positive=True)
    expected[7:9, 5:8] = 1  # the hole
    np.testing.assert_array_equal(filled, expected)
    assert identifiers == ["pneumothorax 1", "pneumothorax 2"]  # as the segments of the SEG


@pytest.mark.dicom_tools
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": 90, "WindowWidth": 60},
        {"WindowCenter": None, "WindowWidth": None},
        {"RescaleSlope": 2.5, "RescaleIntercept": -100, "WindowCenter": 200, "WindowWidth": 300},
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 90, "WindowWidth": 60},
        {"PresentationLUTShape": "INVERSE"},
        {"VOILUTSequence": table(50, np.arange(100) ** 2)},
        {"VOILUTSequence": table(-60, np.arange(200) ** 2), "RescaleSlope": 1, "RescaleIntercept": -80},
        {"PhotometricInterpretation": "MONOCHROME1", "VOILUTSequence": table(50, np.arange(100) ** 2)},
        {
            "ModalityLUTSequence": table(0, np.arange(256)[::-1] * 4, ModalityLUTType="US"),
            "WindowCenter": 500,
            "WindowWidth": 400,
        },
    ],
)  # fmt: skip
def test_dcmtk_renders_the_image_with_it_as_the_network_sees_it(
    tmp_path: Path, elements: dict[str, Any]
) -> None:
    if shutil.which("dcmp2pgm") is None:
        pytest.skip("dcmp2pgm of DCMTK is not installed")
    state, radiograph = present(tmp_path, PatientName="A", **elements)  # DCMTK needs a name
    path, picture = saved(tmp_path, state), tmp_path / "picture.pgm"
    subprocess.run(
        ["dcmp2pgm", "-p", path, tmp_path / "source.dcm", picture], check=True, capture_output=True
    )
    checked = subprocess.run(["dcmpschk", path], capture_output=True, text=True, check=True)
    assert "Test passed" in checked.stdout + checked.stderr
    with Image.open(picture) as rendered:
        np.testing.assert_allclose(np.asarray(rendered), 255 * radiograph.image, atol=1.5)


def test_pixels_keep_their_size_or_at_least_their_shape(tmp_path: Path) -> None:
    (known,), (unknown,) = (
        present(tmp_path, PixelAspectRatio=[3, 2], PixelSpacing=spacing)[0].DisplayedAreaSelectionSequence
        for spacing in ([0.5, 0.25], None)
    )
    assert known.PresentationPixelSpacing == [0.5, 0.25]
    assert "PresentationPixelAspectRatio" not in known
    rows, columns = unknown.PresentationPixelAspectRatio
    assert rows / columns == 1.5


def test_colour_has_no_grayscale_presentation_state(tmp_path: Path) -> None:
    pixels = np.repeat(RAMP[..., np.newaxis], 3, axis=2)
    with pytest.raises(NoDicomResultError, match="colour"):
        present(
            tmp_path, None, RAMP, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB",
            PixelData=pixels.tobytes(),
        )  # fmt: skip


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        saved(tmp_path, present(tmp_path, make_mask(positive=True))[0]).read_bytes() for _ in range(2)
    )
    assert first == second
