"""Reader of radiographs as a MONAI dictionary transform."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform

from pneumoseg.transforms.reader.acceptance import AcceptanceFilters
from pneumoseg.transforms.reader.radiograph import Radiograph, read_radiograph

_DEFAULT_ACCEPTANCE = AcceptanceFilters()
_BESIDE = ("shape", "spacing_mm", "pixel_aspect", "sop_instance_uid", "view", "burned_in")


class LoadRadiographd(MapTransform):
    """Replace paths or radiographs by images, and add the metadata of their files.

    An image is a plain float32 tensor of shape ``(1, rows, columns)`` in [0, 1], upright. A MetaTensor would cost time
    in each later transform, and its affine has no meaning for a radiograph. The metadata are the ``radiograph`` itself
    and its ``shape``, ``spacing_mm``, ``pixel_aspect``, ``sop_instance_uid``, ``view`` and ``burned_in``. Unknown
    values are None, so select the items that you collate.

    Args:
        keys: Items that hold a path or a `Radiograph`.
        acceptance: Which files are accepted as frontal chest radiographs.
        meta_prefix: Prefix of the names of the metadata, to distinguish several images.
        allow_missing_keys: Whether an item may be absent.

    Raises:
        RadiographError: When called on a file that is not read.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        acceptance: AcceptanceFilters = _DEFAULT_ACCEPTANCE,
        meta_prefix: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) > 1 and "{key}" not in meta_prefix:
            raise ValueError(f"{len(self.keys)} images need a meta_prefix with {{key}} in it, as '{{key}}_'")
        self.acceptance = acceptance
        self.meta_prefix = meta_prefix

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
            sample[f"{prefix}radiograph"] = radiograph
            for name in _BESIDE:
                sample[f"{prefix}{name}"] = getattr(radiograph, name)
        return sample
