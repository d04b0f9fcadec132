// Stored integers to 256 levels of grey, as pneumoseg's reader computes them (DICOM PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

import { roundHalfEven } from "./geometry.js";

const DARKEST = 0.005;
const BRIGHTEST = 0.995;

// stored: typed array of integers. Returns a Uint8Array of the same length.
export function greyLevels(stored, description) {
  const { bits, signed = false, slope = 1, intercept = 0, windows = [], inverted = false, padding = null } = description;
  const low = signed ? -(2 ** (bits - 1)) : 0;
  const counts = new Uint32Array(2 ** bits);
  for (const value of stored) counts[value - low]++;
  const rescale = (value) => value * slope + intercept;
  const isPadding = ignoredPadding(counts, low, padding);
  const usable = windows.find((window) => separates(window, extremes(counts, low, rescale)));
  const window = usable ?? percentiles(counts, low, rescale, isPadding);
  const table = new Uint8Array(counts.length); // one entry for each possible integer
  for (let index = 0; index < table.length; index++) {
    const shown = apply(window, rescale(low + index));
    table[index] = isPadding(low + index) ? 0 : roundHalfEven(255 * (inverted ? 1 - shown : shown));
  }
  return Uint8Array.from(stored, (value) => table[value - low]);
}

function apply({ center, width, kind }, value) {
  if (kind === "SIGMOID") return 0.5 + 0.5 * Math.tanh((2 * (value - center)) / width);
  const [middle, whole] = kind === "LINEAR" ? [center - 0.5, width - 1] : [center, width];
  return Math.min(1, Math.max(0, (value - middle) / whole + 0.5));
}

// Whether a window shows more than black and white of an image; otherwise it is as good as none.
function separates({ center, width, kind }, [least, most]) {
  const [low, high] = [center - width / 2, center + width / 2];
  const narrowest = kind === "LINEAR" ? 1 : Math.min(1, (most - least) / 128);
  if (!Number.isFinite(low) || !Number.isFinite(high) || width <= narrowest) return false;
  return least === most || (low < most && high > least);
}

function extremes(counts, low, rescale) {
  const first = counts.findIndex((count) => count > 0);
  const last = counts.findLastIndex((count) => count > 0);
  const levels = [rescale(low + first), rescale(low + last)];
  return [Math.min(...levels), Math.max(...levels)];
}

// Padding that covers the whole image is none.
function ignoredPadding(counts, low, padding) {
  if (!padding) return () => false;
  const isInside = (value) => value >= padding[0] && value <= padding[1];
  const isAll = counts.every((count, index) => count === 0 || isInside(low + index));
  return isAll ? () => false : isInside;
}

// A window over most of the image's values, for files without a usable one.
function percentiles(counts, low, rescale, isPadding) {
  const used = [];
  let total = 0;
  counts.forEach((count, index) => {
    if (count === 0 || isPadding(low + index)) return;
    used.push({ level: rescale(low + index), count });
    total += count;
  });
  used.sort((a, b) => a.level - b.level);
  const at = (share) => {
    let sum = 0;
    return used.find(({ count }) => (sum += count) / total >= share).level;
  };
  let [darkest, brightest] = [at(DARKEST), at(BRIGHTEST)];
  if (darkest === brightest) [darkest, brightest] = [used[0].level, used.at(-1).level];
  const width = brightest - darkest || 1;
  return { center: darkest + width / 2, width, kind: "LINEAR_EXACT" };
}
