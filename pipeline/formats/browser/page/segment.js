// The model in ONNX Runtime, from 256 levels of grey to a mask.

import * as ort from "./lib/ort.js";
import { reviewReasons } from "./quality.js";
import { crop, placement, resize, resizeBytes, toStored, toUpright } from "./geometry.js";

let session = null;
let model = null;

export async function loadModel() {
  ort.env.wasm.numThreads = 1; // threads would need headers that a plain web server does not send
  ort.env.wasm.wasmPaths = { wasm: new URL("lib/ort-wasm-simd-threaded.wasm", import.meta.url).href };
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json: ${answer.status} ${answer.statusText}`);
  model = await answer.json();
  session = await ort.InferenceSession.create("model.onnx");
}

// radiograph: { rows, columns, levels, orientation, spacing }. Returns the mask in the order of the stored pixels, and
// what is unusual about the image, in words.
export async function segment(radiograph) {
  const { rows, columns, levels, orientation } = radiograph;
  const upright = toUpright({ rows, columns, data: levels }, orientation);
  const place = placement(upright.rows, upright.columns, model.image_size);
  const { probabilities, image_probability } = await session.run(networkInput(upright, place));
  const square = { rows: model.image_size, columns: model.image_size, data: probabilities.data };
  const enlarged = resize(crop(square, place), upright.rows, upright.columns);
  const stored = toStored(enlarged, orientation);
  const probability = image_probability.data[0];
  const looks = reviewReasons(radiograph, model.quality).map((reason) => model.quality.looks[reason]);
  return { probability, looks, ...applyOperatingPoint(stored.data, probability, model.operating_point) };
}

function networkInput(upright, place) {
  const size = model.image_size;
  const small = resizeBytes(upright, place.rows, place.columns);
  const [image, content] = [new Float32Array(size * size), new Float32Array(size * size)];
  for (let row = 0; row < place.rows; row++) {
    for (let column = 0; column < place.columns; column++) {
      const at = (place.top + row) * size + place.left + column;
      image[at] = small.data[row * place.columns + column] / 255;
      content[at] = 1;
    }
  }
  const tensor = (data) => new ort.Tensor("float32", data, [1, 1, size, size]);
  return { image: tensor(image), content: tensor(content) };
}

function applyOperatingPoint(probabilities, probability, point) {
  const above = (threshold) => probabilities.reduce((count, value) => count + (value > threshold), 0);
  const isPositive =
    above(point.threshold) > Math.floor(point.min_area_fraction * probabilities.length) &&
    (point.image_threshold === 0 || probability > point.image_threshold);
  const threshold = point.segmentation_threshold ?? point.threshold;
  const mask = Uint8Array.from(probabilities, (value) => (isPositive && value > threshold ? 1 : 0));
  return { mask, area: isPositive ? above(threshold) : 0 };
}
