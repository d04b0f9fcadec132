// PNG files of 8 or 16 bits. The browser's own decoder would reduce 16 bits to 8, and apply colour profiles.

import { greyLevels } from "./grey.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES = { 0: 1, 2: 3, 4: 2, 6: 4 }; // by colour type: grey, RGB, grey and alpha, RGB and alpha
const MOST_PIXELS = 2 ** 26;

export const isPng = (bytes) => SIGNATURE.every((byte, index) => bytes[index] === byte);

export async function readPng(bytes) {
  const { header, data } = chunks(bytes);
  const [columns, rows] = [header.getUint32(0), header.getUint32(4)];
  const [depth, colour, interlace] = [header.getUint8(8), header.getUint8(9), header.getUint8(12)];
  if (![8, 16].includes(depth) || !(colour in SAMPLES) || (depth === 16 && colour !== 0)) {
    throw new Error(`a PNG of ${depth} bits and colour type ${colour}; grey of 8 or 16 bits would fit`);
  }
  if (interlace) throw new Error("an interlaced PNG; save it without interlacing");
  if (rows * columns > MOST_PIXELS || Math.min(rows, columns) < 8) {
    throw new Error(`${rows} x ${columns} pixels are no radiograph`);
  }
  const samples = SAMPLES[colour];
  const line = (columns * samples * depth) / 8;
  const raw = await inflate(data);
  if (raw.length < rows * (line + 1)) throw new Error("the PNG is cut; copy it again");
  const pixels = unfilter(raw, rows, line, (samples * depth) / 8);
  const stored = depth === 16 ? bigEndian(pixels) : oneChannel(pixels, samples);
  return { rows, columns, spacing: null, orientation: {}, levels: greyLevels(stored, { bits: depth }) };
}

function chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const data = [];
  let header = null;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) break;
    if (name === "IHDR") header = new DataView(bytes.buffer, bytes.byteOffset + at + 8, length);
    if (name === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    if (name === "acTL") throw new Error("an animated PNG; a radiograph is one image");
    if (name === "IEND" && header) return { header, data };
    at += 12 + length;
  }
  throw new Error("the PNG is cut; copy it again");
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ISO/IEC 15948, clause 9: each line names the filter that made differences of its bytes.
function unfilter(raw, rows, line, step) {
  const out = new Uint8Array(rows * line);
  for (let row = 0; row < rows; row++) {
    const predict = FILTERS[raw[row * (line + 1)]];
    if (!predict) throw new Error("the PNG is damaged; copy it again");
    for (let at = 0; at < line; at++) {
      const here = row * line + at;
      const left = at >= step ? out[here - step] : 0;
      const above = row ? out[here - line] : 0;
      const corner = row && at >= step ? out[here - line - step] : 0;
      out[here] = raw[row * (line + 1) + 1 + at] + predict(left, above, corner); // modulo 256
    }
  }
  return out;
}

const FILTERS = [
  () => 0,
  (left) => left,
  (_left, above) => above,
  (left, above) => (left + above) >> 1,
  (left, above, corner) => {
    const [a, b, c] = [left, above, corner].map((value) => Math.abs(left + above - corner - value));
    return a <= b && a <= c ? left : b <= c ? above : corner;
  },
];

function bigEndian(bytes) {
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, index) => view.getUint16(2 * index));
}

function oneChannel(pixels, samples) {
  if (samples === 1) return pixels;
  const first = new Uint8Array(pixels.length / samples);
  for (let index = 0; index < first.length; index++) {
    const at = index * samples;
    first[index] = pixels[at];
    if (samples > 2 && (pixels[at] !== pixels[at + 1] || pixels[at] !== pixels[at + 2])) {
      throw new Error("the image has colours; a radiograph is grey");
    }
  }
  return first;
}
