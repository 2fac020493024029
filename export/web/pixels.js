// Grey levels and antialiased scaling, level for level as fer_pipeline/pictures.py and resizing.py.
// An image is { data, width, height, channels }, its levels 0..255, rows from the top.

const { abs, ceil, floor, fround, max, min } = Math;

/** Rounds halves to even, as Python does. */
export const rint = (x) => (abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Which of `length` source rows make up each of `size` rows, and their weights, in float32. */
function spans(length, size) {
  const scale = fround(1 / fround(size / length)), radius = max(scale, 1);
  const within = (x) => min(max(x, 0), length - 1);
  return Array.from({ length: size }, (_, row) => {
    const centre = fround((row + 0.5) * scale);
    const start = within(ceil(fround(fround(centre - radius) - 0.5)));
    const end = within(floor(fround(fround(centre + radius) - 0.5))) + 1;
    const distance = (i) => abs(fround(fround(i + 0.5 - centre) * fround(1 / radius)));
    const weights = new Float32Array(end - start).map((_, i) => max(1 - distance(start + i), 0));
    const total = weights.reduce((sum, weight) => fround(sum + weight), 0);
    return { start, weights: weights.map((weight) => weight * fround(1 / total)) };
  });
}

/** Scales an axis of `length` to `size`, `step` values apart, in every one of `blocks`. */
function scaled(values, blocks, length, size, step) {
  const found = new Float32Array(blocks * size * step), rows = spans(length, size);
  for (let block = 0; block < blocks; block++)
    for (let row = 0; row < size; row++) {
      const { start, weights } = rows[row], to = (block * size + row) * step;
      for (let i = 0; i < weights.length; i++) {
        const from = (block * length + start + i) * step, weight = weights[i];
        for (let k = 0; k < step; k++)
          found[to + k] = fround(found[to + k] + fround(weight * values[from + k]));
      }
    }
  return found;
}

/** Antialiased bilinear scaling, every axis on its own; rounds halves to even. */
export function resize({ data, width, height, channels }, newWidth, newHeight) {
  const rows = scaled(data, 1, height, newHeight, width * channels);
  const both = scaled(rows, newHeight, width, newWidth, channels);
  return { data: new Uint8ClampedArray(both), width: newWidth, height: newHeight, channels };
}

/** A part of an image. Beyond its rim it is black, or has the border's pixels again. */
export function part(image, left, top, width, height, black = false) {
  const { channels } = image, data = new Uint8ClampedArray(width * height * channels);
  for (let y = top, to = 0; y < top + height; y++)
    for (let x = left; x < left + width; x++, to += channels) {
      const row = min(max(y, 0), image.height - 1), column = min(max(x, 0), image.width - 1);
      if (black && (row !== y || column !== x)) continue;
      const from = (row * image.width + column) * channels;
      for (let c = 0; c < channels; c++) data[to + c] = image.data[from + c];
    }
  return { data, width, height, channels };
}

/** What the model takes of RGBA: `size` x `size` grey levels (BT.601, rounded half up). */
export function toFace({ data, width, height, channels }, size) {
  const grey = new Uint8ClampedArray(width * height);
  for (let i = 0, at = 0; i < grey.length; i++, at += channels)
    grey[i] = floor((299 * data[at] + 587 * data[at + 1] + 114 * data[at + 2] + 500) / 1000);
  return resize({ data: grey, width, height, channels: 1 }, size, size).data;
}
