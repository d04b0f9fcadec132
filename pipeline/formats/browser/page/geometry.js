// Images and maps, { rows, columns, data: typed array }, on their way between a radiograph and the square of the
// network. Sums are rounded as PyTorch rounds them, so that the page computes the same pixels.

const { fround } = Math;

// The longest side fills the square, and the rest is padded evenly.
export function placement(rows, columns, size) {
  const scale = size / Math.max(rows, columns);
  const [inner, across] = [rows, columns].map((side) => Math.max(1, roundHalfEven(side * scale)));
  return { top: Math.floor((size - inner) / 2), left: Math.floor((size - across) / 2), rows: inner, columns: across };
}

export function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest === 0.5 ? low + (low % 2) : low + (rest > 0.5);
}

// Scales an image of bytes in integers: weights have at most 15 bits, and rows and columns are rounded one by one.
export function resizeBytes(image, rows, columns) {
  const shrinks = Math.max(rows, columns) < Math.max(image.rows, image.columns);
  const wide = byteColumns(image, columns, byteWeights(image.columns, columns, shrinks));
  return transpose(byteColumns(transpose(wide), rows, byteWeights(image.rows, rows, shrinks)));
}

function byteWeights(from, to, shrinks) {
  const scale = from / to;
  const reach = shrinks ? Math.max(scale, 1) : 1;
  const table = Array.from({ length: to }, (_, index) => {
    const center = scale * (index + 0.5);
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach + 0.5), from);
    const shares = Array.from({ length: last - first }, (_, step) =>
      Math.max(0, 1 - Math.abs((step + first - center + 0.5) / reach)),
    );
    const total = shares.reduce((sum, share) => sum + share, 0);
    return { first, shares: shares.map((share) => share / total) };
  });
  const largest = Math.max(...table.map(({ shares }) => Math.max(...shares)));
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 2 ** 15) bits++;
  const whole = table.map(({ first, shares }) => ({ first, shares: shares.map((share) => Math.trunc(share * 2 ** bits + 0.5)) }));
  return { bits, table: whole };
}

function byteColumns(image, columns, { bits, table }) {
  const data = new Uint8ClampedArray(image.rows * columns);
  for (let row = 0; row < image.rows; row++) {
    for (let column = 0; column < columns; column++) {
      const { first, shares } = table[column];
      const start = row * image.columns + first;
      let sum = 2 ** (bits - 1);
      for (let step = 0; step < shares.length; step++) sum += image.data[start + step] * shares[step];
      data[row * columns + column] = sum >> bits;
    }
  }
  return { rows: image.rows, columns, data };
}

// Scales a map of floats.
export function resize(map, rows, columns) {
  const shrinks = Math.max(rows, columns) < Math.max(map.rows, map.columns);
  const weights = shrinks ? averaging : interpolating;
  return resizeRows(resizeColumns(map, columns, weights(map.columns, columns)), rows, weights(map.rows, rows));
}

// For each output pixel: the first of its two neighbours, and their weights.
function interpolating(from, to) {
  const scale = fround(from / to);
  return Array.from({ length: to }, (_, index) => {
    const place = Math.max(fround(scale * (index + 0.5) - 0.5), 0);
    const first = Math.min(Math.trunc(place), from - 1);
    const second = fround(place - first);
    return { first, shares: first === from - 1 ? [1] : [fround(1 - second), second] };
  });
}

// The same where an image shrinks: the triangle of bilinear interpolation is as wide as an output pixel.
function averaging(from, to) {
  const scale = fround(from / to);
  const reach = Math.max(scale, 1); // the shorter side may stay as it is
  const inverse = fround(1 / reach);
  return Array.from({ length: to }, (_, index) => {
    const center = fround(scale * (index + 0.5));
    const first = Math.max(Math.trunc(fround(center - reach) + 0.5), 0);
    const last = Math.min(Math.trunc(fround(center + reach) + 0.5), from);
    const shares = Array.from({ length: last - first }, (_, step) => {
      const distance = fround((fround(first + step - center) + 0.5) * inverse);
      return Math.max(0, fround(1 - Math.abs(distance)));
    });
    const total = shares.reduce((sum, share) => fround(sum + share), 0);
    return { first, shares: shares.map((share) => fround(share / total)) };
  });
}

function resizeColumns(map, columns, table) {
  const data = new Float32Array(map.rows * columns);
  for (let row = 0; row < map.rows; row++) {
    for (let column = 0; column < columns; column++) {
      const { first, shares } = table[column];
      data[row * columns + column] = weightedSum(map.data, row * map.columns + first, 1, shares);
    }
  }
  return { rows: map.rows, columns, data };
}

function resizeRows(map, rows, table) {
  const data = new Float32Array(rows * map.columns);
  for (let row = 0; row < rows; row++) {
    const { first, shares } = table[row];
    for (let column = 0; column < map.columns; column++) {
      data[row * map.columns + column] = weightedSum(map.data, first * map.columns + column, map.columns, shares);
    }
  }
  return { rows, columns: map.columns, data };
}

// PyTorch on x86 multiplies four values at a time and adds them one by one; the last few are multiplied and added in
// one operation, which rounds once. Without that, one pixel in some thousands would get another of the 256 levels.
function weightedSum(data, start, stride, shares) {
  const blocks = 1 + 4 * Math.floor((shares.length - 1) / 4);
  let sum = fround(data[start] * shares[0]);
  for (let step = 1; step < shares.length; step++) {
    const product = data[start + step * stride] * shares[step];
    sum = fround(sum + (step < blocks ? fround(product) : product));
  }
  return sum;
}

export function crop(map, { top, left, rows, columns }) {
  const data = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const at = (top + row) * map.columns + left;
    data.set(map.data.subarray(at, at + columns), row * columns);
  }
  return { rows, columns, data };
}

export function toUpright(map, { exchanged, rowsReversed, columnsReversed }) {
  return reverse(exchanged ? transpose(map) : map, rowsReversed, columnsReversed);
}

export function toStored(map, { exchanged, rowsReversed, columnsReversed }) {
  const reversed = reverse(map, rowsReversed, columnsReversed);
  return exchanged ? transpose(reversed) : reversed;
}

function transpose({ rows, columns, data }) {
  const turned = data.map((_, index) => data[(index % rows) * columns + Math.floor(index / rows)]);
  return { rows: columns, columns: rows, data: turned };
}

function reverse({ rows, columns, data }, isUpsideDown, isMirrored) {
  if (!isUpsideDown && !isMirrored) return { rows, columns, data };
  const turned = data.map((_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    return data[(isUpsideDown ? rows - 1 - row : row) * columns + (isMirrored ? columns - 1 - column : column)];
  });
  return { rows, columns, data: turned };
}
