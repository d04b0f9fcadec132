// DICOM files: uncompressed little endian, and JPEG Baseline, which browsers decode. Whatever the page cannot read
// exactly as pneumoseg does is refused with one sentence; `pneumoseg predict` reads much more.

import { greyLevels } from "./grey.js";

const TAG = {
  modality: "x00080060", view: "x00185101", bodyPart: "x00180015", orientation: "x00200020",
  samples: "x00280002", photometric: "x00280004", frames: "x00280008", rows: "x00280010", columns: "x00280011",
  allocated: "x00280100", stored: "x00280101", highBit: "x00280102", signed: "x00280103",
  padding: "x00280120", paddingLimit: "x00280121", center: "x00281050", width: "x00281051",
  intercept: "x00281052", slope: "x00281053", voiFunction: "x00281056", modalityLut: "x00283000",
  voiLut: "x00283010", shape: "x20500020", spacing: "x00280030", detectorSpacing: "x00181164",
  pixels: "x7fe00010", syntax: "x00020010",
};
const NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
const JPEG_BASELINE = "1.2.840.10008.1.2.4.50";
const ELSEWHERE = "use `pneumoseg predict`, or convert it with `dcmdjpeg` or `gdcmconv --raw`";
const MOST_PIXELS = 2 ** 26;

export async function readDicom(bytes) {
  const data = parse(bytes);
  checkKind(data);
  const layout = readLayout(data);
  const stored = await readPixels(data, bytes, layout);
  const inverted = layout.photometric === "MONOCHROME1" || code(data, TAG.shape) === "INVERSE";
  return {
    rows: layout.rows,
    columns: layout.columns,
    spacing: readSpacing(data),
    orientation: readOrientation(data),
    levels: greyLevels(stored, {
      bits: layout.stored, signed: layout.signed, inverted,
      windows: readWindows(data), padding: readPadding(data, layout.signed), ...readRescale(data),
    }),
  };
}

function parse(bytes) {
  try {
    return dicomParser.parseDicom(bytes);
  } catch (error) {
    const text = error.exception ?? error.message ?? String(error);
    throw new Error(`it is read neither as PNG nor as DICOM (${text}); ${ELSEWHERE}`);
  }
}

const text = (data, tag) => (data.string(tag) ?? "").trim();
const code = (data, tag) => text(data, tag).split("\\")[0].trim().toUpperCase();
const numbers = (data, tag) => (text(data, tag) ? text(data, tag).split("\\").map(Number) : []);

function checkKind(data) {
  const [modality, view, part] = [TAG.modality, TAG.view, TAG.bodyPart].map((tag) => code(data, tag));
  if (modality && !["CR", "DX", "DR", "RG"].includes(modality)) {
    throw new Error(`Modality is ${modality}, not CR or DX`);
  }
  if (view && !/^(AP|PA)\b|FRONTAL|^(ANTERO|POSTERO)/.test(view)) {
    throw new Error(`the view is ${view}, not AP or PA`);
  }
  if (part && !/CHEST|THORAX|TORAX|LUNG/.test(part)) throw new Error(`the body part is ${part}, not CHEST`);
  for (const [tag, name] of [[TAG.modalityLut, "Modality LUT"], [TAG.voiLut, "VOI LUT"]]) {
    if (data.elements[tag]?.items?.length) throw new Error(`it has a ${name}, which this page does not apply; ${ELSEWHERE}`);
  }
}

function readLayout(data) {
  const value = (tag) => data.uint16(tag);
  const layout = {
    photometric: code(data, TAG.photometric), rows: value(TAG.rows), columns: value(TAG.columns),
    allocated: value(TAG.allocated), stored: value(TAG.stored), highBit: value(TAG.highBit),
    signed: value(TAG.signed) === 1,
  };
  const { photometric, rows, columns, allocated, stored, highBit } = layout;
  if (value(TAG.samples) !== 1 || !["MONOCHROME1", "MONOCHROME2"].includes(photometric)) {
    throw new Error(`PhotometricInterpretation is ${photometric || "missing"}, not MONOCHROME1 or MONOCHROME2`);
  }
  if ((numbers(data, TAG.frames)[0] ?? 1) > 1) throw new Error("it holds several frames; a radiograph is one");
  if (!(rows >= 8 && columns >= 8 && rows * columns <= MOST_PIXELS)) {
    throw new Error(`${rows} x ${columns} pixels are no radiograph`);
  }
  if (![8, 16].includes(allocated) || !(stored >= 1 && stored - 1 <= highBit && highBit < allocated)) {
    throw new Error(`BitsAllocated ${allocated}, BitsStored ${stored} and HighBit ${highBit} do not fit together`);
  }
  return layout;
}

async function readPixels(data, bytes, layout) {
  const element = data.elements[TAG.pixels];
  const syntax = text(data, TAG.syntax);
  if (!element) throw new Error("it holds no pixels");
  if (NATIVE.includes(syntax) && !element.fragments) return readNative(element, bytes, layout);
  if (syntax === JPEG_BASELINE && element.fragments) return readJpeg(element, bytes, layout);
  throw new Error(`its pixels are encoded as ${syntax || "an unknown syntax"}, which browsers do not read; ${ELSEWHERE}`);
}

function readNative(element, bytes, { rows, columns, allocated, stored, highBit, signed }) {
  const size = allocated / 8;
  const needed = rows * columns * size;
  if (element.length < needed || element.dataOffset + needed > bytes.length) {
    throw new Error(`${element.length} of ${needed} bytes of pixels are there; copy the file again`);
  }
  if (element.length - needed >= columns * size) throw new Error("it holds more pixels than its header tells of");
  const view = new DataView(bytes.buffer, bytes.byteOffset + element.dataOffset, needed);
  const [shift, spare] = [highBit + 1 - stored, 32 - stored];
  return Int32Array.from({ length: rows * columns }, (_, index) => {
    const pattern = (size === 1 ? view.getUint8(index) : view.getUint16(2 * index, true)) >>> shift;
    return signed ? (pattern << spare) >> spare : (pattern << spare) >>> spare; // keeps the stored bits only
  });
}

async function readJpeg(element, bytes, { rows, columns, allocated, stored, signed }) {
  if (allocated !== 8 || stored !== 8 || signed) throw new Error("JPEG Baseline of other than 8 bits");
  const parts = element.fragments.map(({ position, length }) => bytes.subarray(position, position + length));
  const stream = new Uint8Array(await new Blob(parts).arrayBuffer());
  let end = stream.length;
  while (end > 2 && !(stream[end - 2] === 0xff && stream[end - 1] === 0xd9)) end--;
  if (stream.length - end > 64) throw new Error("the JPEG stream is cut; copy the file again"); // browsers would show it grey
  // as stored: neither turned by EXIF, nor changed by a colour profile
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "none" };
  const picture = await createImageBitmap(new Blob([stream], { type: "image/jpeg" }), options).catch(() => {
    throw new Error("the JPEG stream is damaged, or not Baseline; copy the file again");
  });
  if (picture.width !== columns || picture.height !== rows) {
    throw new Error(`header ${rows} x ${columns}, JPEG stream ${picture.height} x ${picture.width}`);
  }
  const context = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const colours = context.getImageData(0, 0, columns, rows).data;
  return Uint8Array.from({ length: rows * columns }, (_, index) => {
    const level = colours[4 * index];
    if (level !== colours[4 * index + 1] || level !== colours[4 * index + 2]) {
      throw new Error("the JPEG stream has colours; a radiograph is grey");
    }
    return level;
  });
}

function readRescale(data) {
  const [slope, intercept] = [numbers(data, TAG.slope)[0] ?? 1, numbers(data, TAG.intercept)[0] ?? 0];
  if (!Number.isFinite(slope) || !Number.isFinite(intercept) || slope === 0) {
    throw new Error(`RescaleSlope ${slope} and RescaleIntercept ${intercept} cannot be applied`);
  }
  return { slope, intercept };
}

function readWindows(data) {
  const [centers, widths] = [numbers(data, TAG.center), numbers(data, TAG.width)];
  const named = code(data, TAG.voiFunction);
  const kind = ["LINEAR_EXACT", "SIGMOID"].includes(named) ? named : "LINEAR";
  if ([...centers, ...widths].some(Number.isNaN)) return [];
  return centers.slice(0, widths.length).map((center, index) => ({ center, width: widths[index], kind }));
}

function readPadding(data, signed) {
  const value = (tag) => (data.elements[tag]?.length === 2 ? (signed ? data.int16(tag) : data.uint16(tag)) : undefined);
  const first = value(TAG.padding);
  if (first === undefined) return null;
  const second = value(TAG.paddingLimit) ?? first;
  return [Math.min(first, second), Math.max(first, second)];
}

function readSpacing(data) {
  const isPlausible = (pair) => pair.length === 2 && pair.every((side) => side > 0.001 && side < 50);
  return [TAG.spacing, TAG.detectorSpacing].map((tag) => numbers(data, tag)).find(isPlausible) ?? null;
}

// How stored pixels become upright, with the patient's right at the left and the head at the top (C.7.6.1.1.1).
function readOrientation(data) {
  const [along, down] = text(data, TAG.orientation).toUpperCase().split("\\").map((each) => each.trim());
  if (!/^[APLRHF]{1,3}$/.test(along ?? "") || !/^[APLRHF]{1,3}$/.test(down ?? "")) return {};
  const [row, column] = [along[0], down[0]];
  if ("AP".includes(row) || "AP".includes(column)) throw new Error("PatientOrientation is that of a lateral view");
  const isExchanged = "HF".includes(row);
  if (isExchanged === "HF".includes(column)) return {};
  return {
    exchanged: isExchanged,
    rowsReversed: (isExchanged ? row : column) === "H",
    columnsReversed: (isExchanged ? column : row) === "R",
  };
}
