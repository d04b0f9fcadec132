"""Read one radiograph, print what is known about it, and write it as a PNG.

python examples/read_radiograph.py image.dcm image.png
"""

import sys

import numpy as np
from PIL import Image

from pneumoseg.transforms import RadiographError, read_radiograph

source, target = sys.argv[1:]
try:
    radiograph = read_radiograph(source)  # the greys that a viewer shows, or the reason why there are none
except RadiographError as error:
    sys.exit(f"{source}: {error}")

rows, columns = radiograph.shape
spacing = "unknown" if radiograph.spacing_mm is None else "{:.3f} x {:.3f} mm".format(*radiograph.spacing_mm)
print(f"{rows} x {columns} px, pixel spacing {spacing}, view {radiograph.view or 'unknown'}")
for reason, detail in radiograph.warnings:
    print(f"{reason}: {detail}")
greys = radiograph.image  # float32, from 0 (black) to 1 (white)
Image.fromarray((255 * greys).round().astype(np.uint8)).save(target)
