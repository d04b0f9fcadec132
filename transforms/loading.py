"""Dictionary transform that reads radiographs."""

from collections.abc import Hashable, Mapping
from math import nan
from typing import Any, Final

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph

_DEFAULT_ACCEPTANCE: Final = AcceptanceFilters()
_METADATA: Final = ("shape", "spacing_mm", "pixel_aspect", "sop_instance_uid", "view", "burned_in")
_UNKNOWN: Final = {"spacing_mm": (nan, nan), "sop_instance_uid": "", "view": ""}


class LoadRadiographd(MapTransform):
    """Replace paths or radiographs by images, and add the metadata of their files.

    An image is a plain float32 tensor of shape ``(1, rows, columns)`` in [0, 1], upright; a MetaTensor
    would cost time in each later transform and carry an affine that a radiograph does not have.

    Each image is accompanied by the items ``shape`` (rows, columns), ``spacing_mm`` (row, column), ``pixel_aspect``,
    ``sop_instance_uid``, ``view`` and ``burned_in``. MONAI's `DataLoader` can collate them: an unknown spacing is NaN,
    and an unknown text is empty.

    Args:
        keys: Items that hold a path or a `Radiograph`.
        acceptance: Files to accept; a `Radiograph` is not checked again.
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
        meta_prefix: str = "",
        keep_radiograph: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) > 1 and "{key}" not in meta_prefix:
            raise ValueError(f"{len(self.keys)} images need a meta_prefix with {{key}} in it, as '{{key}}_'")
        self.acceptance = acceptance
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
            sample[key] = torch.from_numpy(radiograph.image).unsqueeze(0)
            prefix = self.meta_prefix.format(key=key)
            for name in _METADATA:
                value = getattr(radiograph, name)
                sample[f"{prefix}{name}"] = _UNKNOWN[name] if value is None else value
            if self.keep_radiograph:
                sample[f"{prefix}radiograph"] = radiograph
        return sample
