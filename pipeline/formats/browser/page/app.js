// The page: takes a file, shows its mask, and makes sure that nothing leaves.

import { readDicom } from "./dicom.js";
import { isPng, readPng } from "./png.js";
import { loadModel, segment } from "./segment.js";

const $ = (id) => document.getElementById(id);

function say(text, { isError = false } = {}) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// A policy can only be tightened. After this one, no script can send a request, not even to this page's own server.
function seal() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "connect-src 'none'; script-src 'wasm-unsafe-eval'; style-src 'none'";
  document.head.append(policy);
}

async function read(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  return isPng(bytes) ? readPng(bytes) : readDicom(bytes);
}

async function open(file) {
  $("file").disabled = true;
  $("result").hidden = true;
  say(`Reading ${file.name} …`);
  try {
    const radiograph = await read(file);
    say("Segmenting …");
    await new Promise((resolve) => setTimeout(resolve, 20)); // lets the browser show that
    show(radiograph, await segment(radiograph));
    say(file.name);
  } catch (error) {
    say(`${file.name}: ${error.message}`, { isError: true });
  } finally {
    $("file").disabled = false;
    $("file").value = ""; // so that the same file can be chosen again
  }
}

function show(radiograph, { mask, area, probability, looks }) {
  const nothing = looks.length ? "indeterminate: no pneumothorax outlined" : "no pneumothorax found";
  $("decision").textContent = area ? "pneumothorax outlined" : nothing;
  $("review").textContent = `To be reviewed by a person, since the image ${looks.join(", ")}.`;
  $("review").hidden = looks.length === 0;
  $("probability").textContent = probability.toFixed(4);
  $("area").textContent = describeArea(area, radiograph.spacing);
  paint($("image"), radiograph, (index, pixel) => {
    pixel.fill(radiograph.levels[index], 0, 3);
    pixel[3] = 255;
  });
  paint($("mask"), radiograph, (index, pixel) => pixel.set([255, 64, 0, 255 * mask[index]]));
  $("result").hidden = false;
  offerMask(radiograph, mask);
}

function describeArea(area, spacing) {
  const pixels = `${area} px`;
  return spacing ? `${pixels}, ${Math.round((area * spacing[0] * spacing[1]) / 100)} cm² at the detector` : pixels;
}

function paint(canvas, { rows, columns }, fill) {
  canvas.width = columns;
  canvas.height = rows;
  const picture = new ImageData(columns, rows);
  for (let index = 0; index < rows * columns; index++) {
    fill(index, picture.data.subarray(4 * index, 4 * index + 4));
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function offerMask(radiograph, mask) {
  const canvas = document.createElement("canvas");
  paint(canvas, radiograph, (index, pixel) => {
    pixel.fill(255 * mask[index], 0, 3);
    pixel[3] = 255;
  });
  canvas.toBlob((blob) => {
    URL.revokeObjectURL($("save").href);
    $("save").href = URL.createObjectURL(blob);
  });
}

function listen() {
  const drop = $("drop");
  $("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]));
  $("show").addEventListener("change", () => ($("mask").hidden = !$("show").checked));
  // anywhere on the page: a browser would open a file that misses the box, and leave the page
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file && !$("file").disabled) open(file);
  });
}

try {
  await loadModel();
  seal();
  listen();
  $("file").disabled = false;
  say("Ready. The model is loaded, and the page can send nothing any more.");
} catch (error) {
  say(`The model was not loaded: ${error.message}`, { isError: true });
}
