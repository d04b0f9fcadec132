"""Segment a PNG radiograph with an exported model; needs numpy, onnxruntime and Pillow, and neither torch nor MONAI.

python examples/run_onnx.py model.onnx radiograph.png mask.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
metadata = session.get_modelmeta().custom_metadata_map
size, point = int(metadata["image_size"]), json.loads(metadata["operating_point"])
picture = Image.open(source)  # `convert` would clip 16 bits to 255
pixels = np.asarray(picture if picture.mode.startswith("I") else picture.convert("L"), dtype=np.float32)
low, high = np.percentile(pixels, (0.5, 99.5), method="inverted_cdf")  # the window of `pneumoseg predict`
levels = np.rint(255 * np.clip((pixels - low) / max(1, high - low), 0, 1))
radiograph = Image.fromarray(levels.astype(np.uint8))
scale = size / max(radiograph.size)
columns, rows = (max(1, round(side * scale)) for side in radiograph.size)
top, left = (size - rows) // 2, (size - columns) // 2
window = (..., slice(top, top + rows), slice(left, left + columns))
image, content = np.zeros((2, 1, 1, size, size), dtype=np.float32)
image[window] = np.asarray(radiograph.resize((columns, rows), Image.Resampling.BILINEAR)) / 255
content[window] = 1
probabilities, image_probability = session.run(None, {"image": image, "content": content})
small = Image.fromarray(probabilities[0, 0][window[1:]])
map_ = np.asarray(small.resize(radiograph.size, Image.Resampling.BILINEAR))  # before it is thresholded
mask = map_ > point["threshold"]
if mask.mean() <= point["min_area_fraction"] or (
    point["image_threshold"] and image_probability[0] <= point["image_threshold"]
):
    mask[:] = False
elif point["segmentation_threshold"] is not None:
    mask = map_ > point["segmentation_threshold"]
Image.fromarray(mask.astype(np.uint8) * 255).save(target)
print(f"probability {image_probability[0]:.4f}, {mask.sum()} pixels of {mask.size}")
