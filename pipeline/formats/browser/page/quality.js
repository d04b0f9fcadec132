// Whether an image looks as the model needs it, as transforms/reader/quality.py finds it, with the numbers of that file.

import { toUpright } from "./geometry.js";

// radiograph: { rows, columns, levels, orientation, spacing }. Returns the names of the reasons to review its result.
export function reviewReasons({ rows, columns, levels, orientation, spacing }, limits) {
  const sampled = sample({ rows, columns, data: levels }, limits.least_side_px);
  const field = litField(toUpright(sampled, orientation), limits);
  const contrast = percentile(field.data, 0.99) - percentile(field.data, 0.01);
  const isSmall = Math.min(rows, columns) < limits.least_side_px;
  if (contrast < (isSmall ? limits.blank_contrast : limits.least_contrast)) return ["LOW_CONTRAST"];
  const isSmallField = !isSmall && field.data.length / sampled.data.length < limits.least_fill;
  const isSaturated =
    !isSmall &&
    (share(field.data, (grey) => grey >= 0.99) > limits.most_white ||
      share(field.data, (grey) => grey <= 0.01) > limits.most_black);
  const [shorter, longer] = [field.rows, field.columns].sort((a, b) => a - b);
  const longestMm = spacing ? Math.max(rows * spacing[0], columns * spacing[1]) : Infinity;
  const pixelMm = spacing ? Math.max(...spacing) : limits.detector_mm / Math.max(rows, columns);
  const pose = shorter < limits.template.length ? null : findPose(field, limits);
  const isLike = pose !== null && pose.likeness >= limits.least_likeness;
  const isUnlike =
    !isLike ||
    longer > limits.most_elongated * shorter ||
    longestMm < limits.least_field_mm ||
    pixelMm > limits.largest_pixel_mm ||
    (!isSmallField && endsInOneLevel(levels, Math.round(limits.most_empty_end * rows) * columns));
  const isOff = isLike && pose.gain >= limits.least_gain;
  const isTilted = isLike && !isOff && pose.tiltGain > limits.least_tilt_gain;
  return [
    ...(isTilted || (isOff && pose.quarterTurns) ? ["LOOKS_TURNED"] : []),
    ...(isOff && pose.isInverted ? ["LOOKS_INVERTED"] : []),
    ...(isUnlike ? ["LOOKS_UNLIKE_CHEST"] : []),
    ...(isSmallField ? ["SMALL_FIELD"] : []),
    ...(isSaturated ? ["SATURATED"] : []),
    ...(!isSmall && noiseOf({ rows, columns, data: levels }, limits) > limits.most_noise ? ["NOISY"] : []),
  ];
}

// Standard deviation of the noise in the middle of an image, from the mixed second differences of neighbours in four rows.
function noiseOf({ rows, columns, data }, { noise_side: side, black, white }) {
  const step = Math.max(1, Math.floor(Math.max(rows, columns) / side));
  const [left, width] = [Math.floor(columns / 4), Math.floor(Math.floor(columns / 2) / step)];
  const gap = Math.floor(rows / 5);
  const found = [];
  for (let top = gap; top < rows - 3 * step; top += gap) {
    const mean = (row, column) => {
      let sum = 0;
      for (let y = top + row * step; y < top + (row + 1) * step; y++) {
        for (let x = left + column * step; x < left + (column + 1) * step; x++) sum += data[y * columns + x];
      }
      return sum / (255 * step * step);
    };
    const down = Array.from({ length: width }, (_, x) => mean(0, x) - 2 * mean(1, x) + mean(2, x));
    for (let x = 1; x < width - 1; x++) {
      const centre = mean(1, x);
      if (centre > black && centre < white) found.push(Math.abs(down[x - 1] - 2 * down[x] + down[x + 1]));
    }
  }
  return found.length ? percentile(found, 0.5) / (6 * 0.6745) : 0;
}

function share(values, isCounted) {
  return values.reduce((count, value) => count + isCounted(value), 0) / values.length;
}

// Whether the last pixels of the file are all the same, as the zeros at the end of an incomplete copy.
function endsInOneLevel(levels, length) {
  return levels.subarray(levels.length - length).every((level) => level === levels.at(-1));
}

// Every n-th pixel, as greys in [0, 1].
function sample(image, leastSide) {
  const step = Math.max(1, Math.floor(Math.min(image.rows, image.columns) / leastSide));
  const [rows, columns] = [image.rows, image.columns].map((side) => Math.ceil(side / step));
  const data = Float32Array.from({ length: rows * columns }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    return image.data[row * step * image.columns + column * step] / 255;
  });
  return { rows, columns, data };
}

// The image without the black and white borders of collimators and padding.
function litField(image, { template, black, white, lit_share: litShare }) {
  const { rows, columns, data } = image;
  const [inRow, inColumn] = [new Uint32Array(rows), new Uint32Array(columns)];
  data.forEach((value, index) => {
    if (value <= black || value >= white) return;
    inRow[Math.floor(index / columns)]++;
    inColumn[index % columns]++;
  });
  const lit = (counts, length) => [...counts.keys()].filter((index) => counts[index] / length > litShare);
  const [down, along] = [lit(inRow, columns), lit(inColumn, rows)];
  if (Math.min(down.length, along.length) < template.length) return image;
  const [top, left, width] = [down[0], along[0], along.at(-1) + 1 - along[0]];
  const height = down.at(-1) + 1 - top;
  const cut = Float32Array.from({ length: height * width }, (_, index) => {
    return data[(top + Math.floor(index / width)) * columns + left + (index % width)];
  });
  return { rows: height, columns: width, data: cut };
}

function percentile(values, share) {
  const sorted = Float32Array.from(values).sort();
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// The quarter turns and the polarity in which the image is most like a frontal chest, and what a tilt would gain.
function findPose(field, { template, disk, tilted_templates: tiltedTemplates }) {
  let small = standardized(shrink(field, template.length));
  const [inDisk] = standardized([small.flat().filter((_, index) => disk[index])]);
  const [untilted, ...tilted] = tiltedTemplates.map((numbers) => {
    return numbers.reduce((sum, value, index) => sum + value * inDisk[index], 0);
  });
  const likenesses = [0, 1, 2, 3].map(() => {
    const likeness = small.flat().reduce((sum, value, index) => sum + value * template.flat()[index], 0);
    small = small.map((_, row) => small.map((line) => line[small.length - 1 - row])); // the next, counterclockwise
    return likeness;
  });
  const poses = [...likenesses, ...likenesses.map((likeness) => -likeness)];
  const likeness = Math.max(...poses);
  const best = poses.indexOf(likeness);
  const tiltGain = Math.max(...tilted) - untilted;
  return { quarterTurns: best % 4, isInverted: best >= 4, likeness, gain: likeness - likenesses[0], tiltGain };
}

function shrink({ rows, columns, data }, side) {
  const borders = (length) => Array.from({ length: side + 1 }, (_, index) => Math.floor((index * length) / side));
  const [down, along] = [borders(rows), borders(columns)];
  return Array.from({ length: side }, (_, row) =>
    Array.from({ length: side }, (_, column) => {
      let sum = 0;
      for (let y = down[row]; y < down[row + 1]; y++) {
        for (let x = along[column]; x < along[column + 1]; x++) sum += data[y * columns + x];
      }
      return sum / ((down[row + 1] - down[row]) * (along[column + 1] - along[column]));
    }),
  );
}

function standardized(small) {
  const values = small.flat();
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const norm = Math.hypot(...values.map((value) => value - mean));
  return small.map((line) => line.map((value) => (norm > 1e-6 ? (value - mean) / norm : 0)));
}
