"""Choose the rule for an image by its header and its sender."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pneumoseg.pipeline.core.names import MANUFACTURER
from pneumoseg.pipeline.pacs.config import Rule
from pneumoseg.transforms.reader.acceptance import ACCEPTANCE_KEYWORDS, read_body_part, read_view
from pneumoseg.transforms.reader.dicom_file import read_dicom_file
from pneumoseg.transforms.reader.elements import quiet_libraries

_KEYWORDS: Final = frozenset({
    *ACCEPTANCE_KEYWORDS, "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "StudyDescription",
    "Manufacturer",
})  # fmt: skip


@dataclass(frozen=True)
class ImageFacts:
    """What rules and the spool need to know of an image.

    Attributes:
        sop_class_uid: SOPClassUID; None where it is missing or invalid, as the other UIDs.
        sop_instance_uid: SOPInstanceUID.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        modality: Modality in capitals; empty where unknown, as the following.
        view: View in capitals.
        body_part: Body part in capitals.
        study_description: Study Description.
        manufacturer: Manufacturer.
    """

    sop_class_uid: str | None
    sop_instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    modality: str
    view: str
    body_part: str
    study_description: str
    manufacturer: str


def read_image_facts(content: bytes, *, max_bytes: int) -> ImageFacts:
    """Read the facts from the header of an image.

    Args:
        content: Whole DICOM file.
        max_bytes: Largest number of bytes that a deflated file may inflate to.

    Raises: RadiographError: If the header cannot be read.
    """
    with quiet_libraries():
        elements = read_dicom_file(content, _KEYWORDS, max_bytes=max_bytes).elements
        return ImageFacts(
            sop_class_uid=elements.uid("SOPClassUID"),
            sop_instance_uid=elements.uid("SOPInstanceUID"),
            study_uid=elements.uid("StudyInstanceUID"),
            series_uid=elements.uid("SeriesInstanceUID"),
            modality=elements.code("Modality"),
            view=read_view(elements),
            body_part=read_body_part(elements),
            study_description=" ".join(elements.text("StudyDescription").split()),
            manufacturer=elements.text("Manufacturer").strip(),
        )


def find_rule(rules: Sequence[Rule], facts: ImageFacts, *, ae: str) -> Rule | None:
    """Find the first rule that matches an image.

    Args:
        rules: Rules in order.
        facts: Facts of the image.
        ae: AE title of the sender.

    Returns: The rule; None if no rule matches, or for a result of an earlier analysis, which an archive may forward.
    """
    if facts.manufacturer == MANUFACTURER:
        return None
    for rule in rules:
        conditions = (
            (rule.ae, ae),
            (rule.modality, facts.modality),
            (rule.view, facts.view),
            (rule.body_part, facts.body_part),
            (rule.study_description, facts.study_description),
        )
        if all(_matches(patterns, value) for patterns, value in conditions):
            return rule
    return None


def _matches(patterns: Sequence[str], value: str) -> bool:
    return not patterns or any(fnmatchcase(value.casefold(), pattern.casefold()) for pattern in patterns)
