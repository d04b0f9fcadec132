"""Time from a DICOM file to the float tensor of a network at 512 px, relative to MONAI's `PydicomReader`.

python -m benchmarks.reading [--quick] [--images FOLDER] [--json FILE]

The peer does the same work: decode, window between the percentiles 0.5 and 99.5, resize, standardise. Ours also checks
header and stream, hashes the file and judges the quality of the image. The JPEG decoder alone is the bound of both.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Resized,
    ScaleIntensityd,
    ScaleIntensityRangePercentilesd,
)

from benchmarks.comparison import Comparison, Setting, relate, run, take_turns
from pneumoseg.pipeline.phantom.dicom_files import write_dicom
from pneumoseg.pipeline.phantom.rendering import render_phantom
from pneumoseg.pipeline.reading.folders import find_radiographs
from pneumoseg.transforms import LoadRadiographd, read_radiograph
from pneumoseg.transforms.network_input import network_input
from pneumoseg.transforms.reader.decoders import CODECS
from pneumoseg.transforms.reader.dicom_file import read_dicom_file
from pneumoseg.transforms.reader.scan import pixel_items

SIZE = 512
IMAGES = 10


def measure(setting: Setting) -> list[Comparison]:
    """Compare the reader, and the MONAI transform around it, with MONAI's reader of DICOM files.

    Args:
        setting: Number of rounds, and the folder of the radiographs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a decoding process has one
    try:
        with TemporaryDirectory() as name:
            return _compare(_paths(setting, Path(name)), setting.rounds(15))
    finally:
        torch.set_num_threads(threads)


def _compare(paths: Sequence[Path], rounds: int) -> list[Comparison]:
    load = (
        LoadImaged("image", reader="PydicomReader", image_only=True),
        EnsureChannelFirstd("image", channel_dim="no_channel"),
    )
    resize = Resized("image", (SIZE, SIZE))
    rest = (resize, NormalizeIntensityd("image"))
    window = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True)
    sides: dict[str, Callable[[Path], object]] = {
        "ours": lambda path: network_input(read_radiograph(path), SIZE),
        "drop-in": _chain(LoadRadiographd("image"), *rest),
        "monai": _chain(*load, window, *rest),
        "monai without window": _chain(*load, ScaleIntensityd("image"), resize),
        "decoder": _decoder(paths),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PydicomReader misses the affine of a radiograph
        logging.getLogger("pydicom").setLevel(logging.ERROR)
        turns = take_turns({name: _over(paths, side) for name, side in sides.items()}, rounds=rounds)
    ours, peer = turns["ours"], turns["monai"]
    name = f"reading, DICOM to {SIZE} px tensor"
    return [
        relate(f"{name}, MONAI with PydicomReader", ours, peer, limit=6.0),
        relate(
            f"{name}, LoadRadiographd in a Compose, MONAI with PydicomReader",
            turns["drop-in"],
            peer,
            limit=2.0,
        ),
        relate(f"{name}, MONAI without a window", ours, turns["monai without window"], limit=None),
        relate(f"{name}, the JPEG decoder alone", ours, turns["decoder"], limit=None),
        relate(
            "reading, bound: the JPEG decoder alone, MONAI with PydicomReader",
            turns["decoder"],
            peer,
            limit=None,
        ),
    ]


def _paths(setting: Setting, folder: Path) -> Sequence[Path]:
    """Select radiographs, or write phantoms of 1024 x 1024 pixels in JPEG Baseline, as those of the challenge are."""
    if setting.images is not None:
        return find_radiographs(setting.images).images[:IMAGES]
    return [write_dicom(render_phantom(seed), folder, name=f"phantom {seed}") for seed in range(3)]


def _chain(*transforms: Callable[[Any], object]) -> Callable[[Path], object]:
    chain = Compose(transforms)
    return lambda path: chain({"image": path})


def _decoder(paths: Sequence[Path]) -> Callable[[Path], object]:
    """Make a function that decodes the compressed stream of a file, which is in memory."""
    streams = {}
    for path in paths:
        file = read_dicom_file(path.read_bytes(), frozenset(), max_bytes=0)
        assert file.pixels is not None  # noqa: S101  (radiographs)
        codec = CODECS[file.transfer_syntax or ""]
        stream = b"".join(list(pixel_items(file.body, file.pixels))[1:])
        streams[path] = codec, stream, codec.inspect(stream)

    def decode(path: Path) -> object:
        codec, stream, info = streams[path]
        return codec.decode(stream, info)

    return decode


def _over(paths: Sequence[Path], read: Callable[[Path], object]) -> Callable[[], None]:
    def all_of_them() -> None:
        for path in paths:
            read(path)

    return all_of_them


if __name__ == "__main__":
    run(measure, __doc__)
