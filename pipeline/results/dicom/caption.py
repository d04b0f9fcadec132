"""Text that states a result wherever it is shown as a picture: in the pixels of a capture, and over the image."""

from importlib.metadata import version

from pneumoseg.pipeline.results.dicom.origin import MODEL_NAME, NOTICE, Origin
from pneumoseg.transforms.measurements import Measurements


def caption(measurements: Measurements, origin: Origin) -> list[str]:
    """Describe result, product and purpose; nothing in it identifies a person.

    Args:
        measurements: Measurements of the mask; their sentence gives result, side, probability and doubts.
        origin: Model and settings that the mask was made with.

    Returns: Lines of text.
    """
    product = f"{MODEL_NAME} {version('pneumoseg')}, model {origin.model_sha256[:16]}"
    return [measurements.sentence, f"{NOTICE}.", product]
