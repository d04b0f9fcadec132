"""One sample: a radiograph, its run-length label, and the MONAI transforms around them.

Names are looked up when they are first used, so that ``import pneumoseg.transforms.reader.dicom``
loads neither torch nor MONAI: a decode worker has to start quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumoseg.transforms.reader.acceptance import Gates as Gates
    from pneumoseg.transforms.labels.text_table import LabelFileError as LabelFileError
    from pneumoseg.transforms.labels.challenge_csv import Labels as Labels
    from pneumoseg.transforms.labels.challenge_csv import read_labels as read_labels
    from pneumoseg.transforms.reader.radiograph import Radiograph as Radiograph
    from pneumoseg.transforms.reader.radiograph import RadiographError as RadiographError
    from pneumoseg.transforms.reader.radiograph import read_radiograph as read_radiograph
    from pneumoseg.transforms.reader.reasons import Reason as Reason
    from pneumoseg.transforms.labels.rle import RLEError as RLEError
    from pneumoseg.transforms.labels.rle import decode_rle as decode_rle
    from pneumoseg.transforms.labels.rle import encode_rle as encode_rle

_HOME = {
    "Gates": "gates",
    "LabelFileError": "label_file",
    "Labels": "labels",
    "RLEError": "rle",
    "Radiograph": "radiograph",
    "RadiographError": "radiograph",
    "Reason": "reasons",
    "decode_rle": "rle",
    "encode_rle": "rle",
    "read_labels": "labels",
    "read_radiograph": "radiograph",
}
__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, made from the one table of names)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
