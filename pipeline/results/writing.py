"""The files that are asked for, of one image: a function of its file, the model and the settings alone."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from pneumoseg.pipeline.core.files import sha256_of
from pneumoseg.pipeline.drawing.pictures import heat, overlay, save_png, std_picture
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.results.dicom.origin import Origin, save_dicom
from pneumoseg.pipeline.results.dicom.sc import make_sc
from pneumoseg.pipeline.results.dicom.seg import make_seg
from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, Source, read_source
from pneumoseg.pipeline.results.dicom.sr import make_sr
from pneumoseg.pipeline.results.nifti import save_nifti
from pneumoseg.pipeline.results.settings import FOLDERS, SUFFIXES, Settings
from pneumoseg.pipeline.scoring.calibration import calibrate
from pneumoseg.transforms.measurements import Measurements

_SHOW_THE_IMAGE = ("sc", "overlay", "attention")
_DICOM = ("seg", "sr", "sc")
_FINEST_GATE = -1  # attention maps come deepest first


@dataclass
class Written:
    """What was written of an image.

    Attributes:
        outputs: SHA-256 of each file, by its path within the output folder.
        left_out: Why kinds that were asked for have no file.
    """

    outputs: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Writer:
    """Writes the files of one image after the other.

    Args:
        output: The folder of the results.
        settings: What is asked for.
    """

    output: Path
    settings: Settings

    @property
    def needs_content(self) -> bool:
        """Whether anything is asked for that is made of the image's file itself."""
        return not set(_DICOM).isdisjoint(self.settings.kinds)

    def paths(self, name: str) -> dict[str, str]:
        """Where the file of each kind of this name goes, within the output folder."""
        return {
            kind: f"{folder}/{name}{SUFFIXES.get(kind, '.png')}"
            for kind, folder in FOLDERS.items()
            if kind in self.settings.kinds
        }

    def write(
        self, name: str, result: Segmentation, measurements: Measurements, content: bytes | None
    ) -> Written:
        """Write all that is asked for.

        Args:
            name: Of the files, less the ending.
            result: What the model says.
            measurements: Of its mask.
            content: Of the image's file, for the DICOM kinds; None where it has gone or changed.
        """
        written = Written()
        source = self._source(result, content, written)
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
        """Text in an image may be a name; an archive holds it anyway, and its objects say that it is there."""
        is_clinical = kind in _DICOM and not self.settings.research
        return (
            result.radiograph.burned_in and not self.settings.acceptance.allow_burned_in and not is_clinical
        )

    def _source(self, result: Segmentation, content: bytes | None, written: Written) -> Source | None:
        if not self.needs_content:
            return None
        asked = [kind for kind in _DICOM if kind in self.settings.kinds]
        try:
            if content is None:
                raise NoDicomResultError("the file has gone or changed since it was read")
            return read_source(
                content,
                result.radiograph,
                with_identity=not self.settings.research,
                max_bytes=self.settings.acceptance.max_bytes,
            )
        except NoDicomResultError as error:
            written.left_out |= dict.fromkeys(asked, str(error))
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
                assert result.attention is not None  # noqa: S101  (who asks for the kind asks for it)
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
            return make_sc(source, overlay(result.radiograph.image, result.mask), origin)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # a header may surprise us
            raise NoDicomResultError(
                f"highdicom does not take its header ({type(error).__name__})"
            ) from error
