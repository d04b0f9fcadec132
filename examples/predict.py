"""Segment one file and one array with a trained model, and write both masks as PNG.

python examples/predict.py run/model image.dcm image.png masks
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pneumoseg.pipeline import load_predictor

model, file, picture, folder = map(Path, sys.argv[1:])
predictor = load_predictor(model)  # device="auto": the first GPU, or else the processor

pixels = np.asarray(Image.open(picture))  # (rows, columns), upright, grey of 8 or 16 bits
folder.mkdir(exist_ok=True)
for name, source in (("file", file), ("array", pixels)):
    result = predictor.predict(source)
    area = f"{result.area_px} px" if result.area_mm2 is None else f"{result.area_mm2 / 100:.1f} cm2"
    print(f"{name}: {result.decision}, probability {result.probability:.3f}, area {area}")
    Image.fromarray(255 * result.mask).save(folder / f"{name}.png")
