"""Write the requested result files of one image; they depend on its file, the model and the settings alone."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.drawing.pictures import heat, overlay, save_png, std_picture
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.results.dicom.caption import caption
from pneumoseg.pipeline.results.dicom.gsps import make_gsps
from pneumoseg.pipeline.results.dicom.origin import Origin, save_dicom
from pneumoseg.pipeline.results.dicom.sc import make_sc
from pneumoseg.pipeline.results.dicom.seg import make_seg
from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, Source, read_source
from pneumoseg.pipeline.results.dicom.sr import make_sr
from pneumoseg.pipeline.results.nifti import save_nifti
from pneumoseg.pipeline.results.planning import read_content
from pneumoseg.pipeline.results.settings import FOLDERS, SUFFIXES, Settings
from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.transforms.measurements import Measurements

_SHOW_THE_IMAGE = ("sc", "overlay", "attention")
_DICOM = ("seg", "sr", "sc", "gsps")
_FINEST_GATE = -1  # attention maps come deepest first


@dataclass
class Written:
    """The result files of an image.

    Attributes:
        outputs: SHA-256 of each file, by its path within the output folder.
        left_out: For each requested kind without a file, the reason.
    """

    outputs: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Writer:
    """Writer of result files, one image after the other.

    Args:
        output: Folder of the results.
        settings: Requested kinds, and all settings that decide their content.
    """

    output: Path
    settings: Settings

    def paths(self, name: str) -> dict[str, str]:
        """Path of the file of each requested kind, within the output folder."""
        return {
            kind: f"{folder}/{name}{SUFFIXES.get(kind, '.png')}"
            for kind, folder in FOLDERS.items()
            if kind in self.settings.kinds
        }

    def write(self, name: str, result: Segmentation, measurements: Measurements) -> Written:
        """Write all requested files of an image.

        Args:
            name: Name of the files, without suffix.
            result: Segmentation of the image.
            measurements: Measurements of its mask.
        """
        written = Written()
        source = self._source(result, written)
        for kind, place in self.paths(name).items():
            if kind in _SHOW_THE_IMAGE and self._hides(result, kind):
                written.left_out[kind] = "text is burned into the image"
            if kind in written.left_out:
                (self.output / place).unlink(missing_ok=True)  # of an earlier run with other settings
                continue
            try:
                self._save(kind, self.output / place, result, measurements, source)
            except NoDicomResultError as error:
                written.left_out[kind] = str(error)
                continue
            written.outputs[place] = sha256_of(self.output / place)
        return written

    def _hides(self, result: Segmentation, kind: str) -> bool:
        """Tell whether to leave out a picture of an image with text in it, which may be a name.

        An archive holds the text anyway, and DICOM objects state that it is present.
        """
        is_clinical = kind in _DICOM and not self.settings.research
        return (
            result.radiograph.burned_in and not self.settings.acceptance.allow_burned_in and not is_clinical
        )

    def remove(self, name: str) -> None:
        """Delete the files of an earlier run."""
        for path in self.paths(name).values():
            (self.output / path).unlink(missing_ok=True)

    def _source(self, result: Segmentation, written: Written) -> Source | None:
        """Read the header that DICOM results refer to, from the bytes that were decoded."""
        requested = [kind for kind in _DICOM if kind in self.settings.kinds]
        if not requested:
            return None
        radiograph, max_bytes = result.radiograph, self.settings.acceptance.max_bytes
        content = None if result.path is None else read_content(result.path, max_bytes)
        try:
            if content is None or hashlib.sha256(content).hexdigest() != radiograph.file_sha256:
                raise NoDicomResultError("the file has gone or changed since it was read")
            return read_source(
                content,
                radiograph,
                with_identity=not self.settings.research,
                max_bytes=max_bytes,
            )
        except NoDicomResultError as error:
            written.left_out |= dict.fromkeys(requested, str(error))
            return None

    def _save(
        self, kind: str, path: Path, result: Segmentation, measurements: Measurements, source: Source | None
    ) -> None:
        radiograph, mask = result.radiograph, result.mask
        match kind:
            case "png":
                save_png(path, mask * 255)
            case "nifti":
                save_nifti(path, mask, radiograph.spacing_mm, radiograph.patient_orientation)
            case "overlay":
                save_png(path, overlay(radiograph.image, mask))
            case "attention":
                assert result.attention is not None  # noqa: S101  (requested together with the kind)
                save_png(path, heat(radiograph.image, result.attention[_FINEST_GATE]))
            case "probability":
                given_out = calibrate(result.probabilities, self.settings.temperature)
                save_png(path, (given_out * 65535).round().astype(np.uint16))
            case "uncertainty":
                assert result.pixel_std is not None  # noqa: S101  (the kind is refused without dropout)
                save_png(path, std_picture(result.pixel_std))
            case _:
                assert source is not None  # noqa: S101  (else the kind is left out)
                save_dicom(path, self._dicom(kind, source, result, measurements))

    def _dicom(self, kind: str, source: Source, result: Segmentation, measurements: Measurements) -> Dataset:
        origin = Origin(self.settings.model_sha256)
        try:
            if kind == "seg":
                return make_seg(source, result.mask, origin)
            if kind == "sr":
                return make_sr(
                    source,
                    result.mask,
                    measurements,
                    result.probability,
                    origin,
                    uncertainty=result.image_std,
                )
            lines = caption(measurements, origin)
            if kind == "gsps":
                return make_gsps(source, result.radiograph, result.mask, lines, origin)
            return make_sc(source, overlay(result.radiograph.image, result.mask), lines, origin)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # a header may surprise us
            raise NoDicomResultError(
                f"highdicom does not take its header ({type(error).__name__})"
            ) from error
