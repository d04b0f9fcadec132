"""Dictionary transform that reads radiographs."""

from collections.abc import Hashable, Mapping
from math import nan
from typing import Any, Final

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.network_input import network_image
from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph

_DEFAULT_ACCEPTANCE: Final = AcceptanceFilters()


class LoadRadiographd(MapTransform):
    """Replace paths or radiographs by images, and add the metadata of their files.

    An image is a plain float32 tensor of shape ``(1, rows, columns)`` in [0, 1]; a MetaTensor would cost time in each
    later transform and carry an affine that a radiograph does not have. It is upright, with the head at the top and the
    patient's right on the left, where PatientOrientation tells how the stored pixels lie; otherwise it is as stored.

    Each image is accompanied by the items ``shape`` (rows, columns), ``spacing_mm`` (row, column) and ``pixel_aspect``
    of the upright image; ``orientation``, the PatientOrientation of the stored pixels with which
    `DecodeRLEd` brings a label upright and `ToOriginalSized` returns to the stored pixels; and ``sop_instance_uid``,
    ``view`` and ``burned_in``. MONAI's `DataLoader` can collate them: an unknown spacing is NaN, and an unknown string
    is empty.

    Args:
        keys: Items that hold a path or a `Radiograph`.
        acceptance: Files to accept; a `Radiograph` is not checked again.
        size: Side of the network's square input in pixels. Images are scaled to it as by `ToNetworkSized`, in a
            fraction of the time; None keeps their size.
        meta_prefix: Prefix of the names of the further items, which keeps those of several images apart; ``{key}`` in
            it is replaced by the key.
        keep_radiograph: Add the `Radiograph` itself as item ``radiograph``. MONAI's `DataLoader` cannot collate it.
        allow_missing_keys: Whether an item may be absent.

    Raises:
        RadiographError: If a file cannot be read, when the transform is called.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        acceptance: AcceptanceFilters = _DEFAULT_ACCEPTANCE,
        size: int | None = None,
        meta_prefix: str = "",
        keep_radiograph: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) > 1 and "{key}" not in meta_prefix:
            raise ValueError(f"{len(self.keys)} images need a meta_prefix with {{key}} in it, as '{{key}}_'")
        self.acceptance = acceptance
        self.size = size
        self.meta_prefix = meta_prefix
        self.keep_radiograph = keep_radiograph

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read each of `keys` in a copy of *data*."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            source = sample[key]
            radiograph = (
                source
                if isinstance(source, Radiograph)
                else read_radiograph(source, acceptance=self.acceptance)
            )
            if self.size is None:
                upright = radiograph.orientation.apply(radiograph.image)
                sample[key] = torch.from_numpy(np.ascontiguousarray(upright)).unsqueeze(0)
            else:
                sample[key] = network_image(radiograph, self.size)
            prefix = self.meta_prefix.format(key=key)
            sample |= {f"{prefix}{name}": value for name, value in _metadata(radiograph).items()}
            if self.keep_radiograph:
                sample[f"{prefix}radiograph"] = radiograph
        return sample


def _metadata(radiograph: Radiograph) -> dict[str, Any]:
    orientation, aspect = radiograph.orientation, radiograph.pixel_aspect
    return {
        "shape": orientation.swap(radiograph.shape),
        "spacing_mm": orientation.swap(radiograph.spacing_mm or (nan, nan)),
        "pixel_aspect": 1 / aspect if orientation.exchanged else aspect,
        "orientation": "\\".join(radiograph.patient_orientation or ()),
        "sop_instance_uid": radiograph.sop_instance_uid or "",
        "view": radiograph.view or "",
        "burned_in": radiograph.burned_in,
    }
