"""Write the requested result files of one image; they depend on its file, the model and the settings alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.core.files import sha256_of, write_json
from pneumoseg.pipeline.drawing.pictures import heat, overlay, save_png, std_picture
from pneumoseg.pipeline.inference.segmentation import Segmentation
from pneumoseg.pipeline.results.dicom.source import NoDicomResultError, Source, read_source
from pneumoseg.pipeline.results.nifti import save_nifti
from pneumoseg.pipeline.results.receipts import History, Row
from pneumoseg.pipeline.results.settings import CLINICAL_KINDS, DICOM_KINDS, FOLDERS, SUFFIXES, Settings
from pneumoseg.transforms.measurements import Measurements

if TYPE_CHECKING:
    from pydicom import Dataset

_SHOW_THE_IMAGE = ("sc", "overlay", "attention")
_WITHHELD = "text is burned into the image"
_FINEST_GATE = -1  # attention maps come deepest first


@dataclass
class Written:
    """The result files of an image.

    Attributes:
        history: What earlier runs have made of the image.
        outputs: SHA-256 of each file, by its path within the output folder.
        left_out: For each requested kind without a file, the reason.
        header_changes: What was cut, dropped, replaced or guessed in the header of the DICOM results.
        report: UIDs of the DICOM SR; None without one.
        replaces: UIDs of the earlier DICOM SR that it names as its predecessor.
    """

    history: History
    outputs: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    header_changes: tuple[str, ...] = ()
    report: dict[str, str] | None = None
    replaces: dict[str, str] | None = None


@dataclass(frozen=True)
class Writer:
    """Writer of result files, one image after the other.

    Args:
        output: Folder of the results.
        settings: Requested kinds, and all settings that decide their content.
        parameters: Settings of the algorithm by name, for DICOM results.
    """

    output: Path
    settings: Settings
    parameters: Mapping[str, str] = field(default_factory=dict)

    def paths(self, name: str) -> dict[str, str]:
        """Path of the file of each requested kind, within the output folder."""
        return {
            kind: f"{folder}/{name}{SUFFIXES.get(kind, '.png')}"
            for kind, folder in FOLDERS.items()
            if kind in self.settings.kinds
        }

    def write(self, name: str, result: Segmentation, measurements: Measurements, history: History) -> Written:
        """Write all requested files of an image.

        Args:
            name: Name of the files, without suffix.
            result: Segmentation of the image.
            measurements: Measurements of its mask.
            history: What earlier runs have made of the image.
        """
        written = Written(history)
        source = self._source(result, written)
        for kind, place in self.paths(name).items():
            if kind in _SHOW_THE_IMAGE and self._hides(result, kind):
                written.left_out[kind] = _WITHHELD
            if kind in written.left_out:
                (self.output / place).unlink(missing_ok=True)  # of an earlier run with other settings
                continue
            try:
                if kind in CLINICAL_KINDS:
                    assert source is not None  # noqa: S101  (else the kind is left out)
                    with _surprises_of_a_header():
                        self._save_clinical(
                            kind, place, source, result, measurements=measurements, written=written
                        )
                else:
                    self._save(kind, self.output / place, result)
            except NoDicomResultError as error:
                written.left_out[kind] = str(error)
                (self.output / place).unlink(missing_ok=True)
                continue
            written.outputs[place] = sha256_of(self.output / place)
        return written

    def _hides(self, result: Segmentation, kind: str) -> bool:
        """Tell whether to leave out a picture of an image with text in it, which may be a name.

        An archive holds the text anyway, and DICOM objects state that it is present.
        """
        is_clinical = kind in DICOM_KINDS and not self.settings.research
        return (
            result.radiograph.burned_in and not self.settings.acceptance.allow_burned_in and not is_clinical
        )

    def remove(self, name: str) -> None:
        """Delete the files of an earlier run."""
        for path in self.paths(name).values():
            (self.output / path).unlink(missing_ok=True)

    def _source(self, result: Segmentation, written: Written) -> Source | None:
        """Read the header that DICOM results refer to, from the bytes that were decoded."""
        requested = [kind for kind in CLINICAL_KINDS if kind in self.settings.kinds]
        if not requested:
            return None
        try:
            with _surprises_of_a_header():
                source = read_source(result.radiograph, with_identity=not self.settings.research)
        except NoDicomResultError as error:
            written.left_out |= dict.fromkeys(requested, str(error))
            return None
        written.header_changes = source.changes
        return source

    def _save(self, kind: str, path: Path, result: Segmentation) -> None:
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
                save_png(path, (result.probabilities * 65535).round().astype(np.uint16))
            case _:
                assert result.pixel_std is not None  # noqa: S101  (the kind is refused without dropout)
                save_png(path, std_picture(result.pixel_std))

    def _save_clinical(
        self,
        kind: str,
        place: str,
        source: Source,
        result: Segmentation,
        *,
        measurements: Measurements,
        written: Written,
    ) -> None:
        from pneumoseg.pipeline.results.dicom.caption import caption  # noqa: PLC0415
        from pneumoseg.pipeline.results.dicom.gsps import make_gsps  # noqa: PLC0415
        from pneumoseg.pipeline.results.dicom.origin import Origin, save_dicom  # noqa: PLC0415
        from pneumoseg.pipeline.results.dicom.sc import make_sc  # noqa: PLC0415
        from pneumoseg.pipeline.results.dicom.seg import make_seg, reference_to_seg  # noqa: PLC0415
        from pneumoseg.pipeline.results.dicom.sr import make_sr, report_uid, uids_of  # noqa: PLC0415
        from pneumoseg.pipeline.results.fhir import make_fhir  # noqa: PLC0415

        settings, history = self.settings, written.history
        origin = Origin(
            model_sha256=settings.model_sha256,
            analysis_sha256=settings.analysis_sha256,
            analysed_at=history.analysed_at,
            parameters=self.parameters,
            uid_root=settings.uid_root,
        )
        warnings = [reason for reason, _ in result.radiograph.warnings]
        if kind == "fhir":
            bundle = make_fhir(
                source,
                measurements,
                result.probability,
                origin,
                uncertainty=result.image_std,
                warnings=warnings,
            )
            write_json(self.output / place, bundle)
            return
        replaces = None
        if kind == "seg":
            made: Dataset = make_seg(source, result.mask, origin, warnings=warnings)
        elif kind == "sr":
            has_segmentation = "seg" in settings.kinds and "seg" not in written.left_out
            segmentation = reference_to_seg(source, origin) if has_segmentation else None
            # a report that would be made again keeps its predecessor; another one replaces it
            same = history.report is None or history.report["SOPInstanceUID"] == report_uid(
                source, origin, segmentation=segmentation, predecessor=history.replaces
            )
            replaces = history.replaces if same else history.report
            made = make_sr(
                source,
                result.mask,
                measurements,
                result.probability,
                origin,
                uncertainty=result.image_std,
                warnings=warnings,
                segmentation=segmentation,
                predecessor=replaces,
            )
        elif kind == "gsps":
            made = make_gsps(source, result.radiograph, result.mask, caption(measurements, origin), origin)
        else:
            picture = overlay(result.radiograph.image, result.mask)
            made = make_sc(source, picture, caption(measurements, origin), origin)
        save_dicom(self.output / place, made)
        if kind == "sr":
            written.report, written.replaces = uids_of(made), replaces


@contextmanager
def _surprises_of_a_header() -> Iterator[None]:
    """Make whatever error a header causes in the DICOM libraries the reason for a missing result of this one image.

    An error of the system or the output folder, such as a full disk, concerns all images and is left as it is.

    Raises: NoDicomResultError: In place of the error.
    """
    try:
        yield
    except (NoDicomResultError, JobError, OSError, MemoryError):
        raise
    except Exception as error:
        raise NoDicomResultError(f"its header cannot be used ({type(error).__name__})") from error


def lacks_requested_object(row: Row) -> bool:
    """Check whether a requested DICOM result of an image could not be made; one that is withheld does not count.

    Args:
        row: Row of the image, as `row_of` makes it.
    """
    left_out = [why.partition(": ") for why in str(row.get("left_out") or "").split("; ") if why]
    return any(kind in CLINICAL_KINDS and why != _WITHHELD for kind, _, why in left_out)
