"""Radiographs, run-length labels, and the MONAI transforms around them.

``__init__.pyi`` lists the public names. They are imported on first use, so that
``import pneumoseg.transforms.reader.dicom`` loads neither torch nor MONAI: a decode worker has to start quickly.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
