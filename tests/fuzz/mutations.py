"""Small radiographs in all encodings, and random damage to them. Worker processes import this file."""

import io
import random
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import read_radiograph

DEEP = (np.arange(16 * 24, dtype=np.uint16) * 7).reshape(16, 24)  # 12 bits
GREY = (DEEP % 251).astype(np.uint8)

STREAMS = {
    uid.JPEGBaseline8Bit: imagecodecs.jpeg8_encode(GREY),
    uid.JPEGExtended12Bit: imagecodecs.jpeg8_encode(GREY),
    uid.JPEGLossless: imagecodecs.jpeg8_encode(GREY, lossless=True, predictor=4),
    uid.JPEGLosslessSV1: imagecodecs.jpeg8_encode(GREY, lossless=True, predictor=1),
    uid.JPEG2000Lossless: imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", level=0),
    uid.JPEG2000: imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", level=20),
    uid.HTJ2KLossless: imagecodecs.htj2k_encode(DEEP, reversible=True),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode(DEEP),
}
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)


def seeds() -> dict[str, bytes]:
    """Give one valid file of each encoding, with all that a header may say of grey."""
    found = {syntax.name: _file(syntax, encapsulate([bytes(stream)])) for syntax, stream in STREAMS.items()}
    found |= {syntax.name: _file(syntax, DEEP.astype(_order(syntax)).tobytes()) for syntax in NATIVE}
    found["RLE"] = _file(uid.RLELossless, _run_lengths())
    for name, image in {"PNG, 8 bits": Image.fromarray(GREY), "PNG, 16 bits": Image.fromarray(DEEP)}.items():
        file = io.BytesIO()
        image.save(file, "PNG")
        found[name] = file.getvalue()
    return found


def _order(syntax: uid.UID) -> str:
    return "<u2" if syntax.is_little_endian else ">u2"


def _run_lengths() -> bytes:
    frame = RLELosslessEncoder.encode(
        DEEP,
        rows=16,
        columns=24,
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
    )
    return encapsulate([frame])


def _file(syntax: uid.UID, pixels: bytes) -> bytes:
    deep = syntax in {*NATIVE, uid.RLELossless, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.JPEGLSLossless}
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid.UID("1.2.3.4")
    data.Modality, data.ViewPosition, data.BodyPartExamined = "DX", "PA", "CHEST"
    data.PatientAge, data.PixelSpacing = "058Y", [0.25, 0.25]
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = 16, 24, 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = (16, 12, 11) if deep else (8, 8, 7)
    data.PhotometricInterpretation = "MONOCHROME1" if deep else "MONOCHROME2"
    data.WindowCenter, data.WindowWidth, data.VOILUTFunction = [100, 90], [150, 80], "SIGMOID"
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 2, -10, "US"
    data.PixelPaddingValue = 0
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(256, dtype=_order(syntax)).tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    data.VOILUTSequence = [table]
    data.PixelData = pixels
    data["PixelData"].VR = "OW" if deep else "OB"
    data["PixelData"].is_undefined_length = syntax.is_encapsulated
    file = io.BytesIO()
    dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def mutate(data: bytes, other: bytes, source: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat, take out or splice in a few bytes."""
    damaged = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4))):
        at = source.randrange(len(damaged))
        # most of what shifts bytes ends early
        match source.choices(range(7), weights=(6, 6, 2, 1, 1, 1, 3))[0]:
            case 0:
                damaged[at] ^= 1 << source.randrange(8)
            case 1:
                damaged[at] = source.randrange(256)
            case 2:  # lengths that are too large, undefined or nothing
                size = source.choice((2, 4))
                damaged[at : at + size] = source.choice((b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", bytes(4)))[
                    :size
                ]
            case 3:
                del damaged[max(at, 1) :]
            case 4:
                damaged[at:at] = damaged[:at][-source.randrange(1, 64) :]
            case 5:
                del damaged[at : at + source.randrange(1, 32)]
            case 6:
                begin = source.randrange(len(other))
                damaged[at : at + 64] = other[begin : begin + source.randrange(1, 256)]
        damaged = damaged or bytearray(1)
    return bytes(damaged)


def read_all(path: Path, *, acceptance: AcceptanceFilters) -> tuple[bool, bool]:
    """Read a file to the end; tell whether all values are finite, and all grey levels between black and white."""
    radiograph = read_radiograph(path, acceptance=acceptance)
    image = radiograph.image
    return bool(np.isfinite(radiograph.values).all()), bool(((image >= 0) & (image <= 1)).all())
