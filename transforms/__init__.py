"""One sample: a radiograph, its run-length label, and the MONAI transforms around them.

``__init__.pyi`` lists the public names. They are imported when they are first used, so that
``import pneumoseg.transforms.reader.dicom`` loads neither torch nor MONAI: a decode worker has to start quickly.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
