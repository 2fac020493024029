// Grey levels and antialiased scaling, level for level as fer_pipeline/pictures.py and resizing.py.
// An image is { data, width, height, channels }, its levels 0..255, rows from the top.

const { abs, ceil, floor, fround, max, min } = Math;

/** Rounds halves to even, as Python does. */
export function rint(x) {
  return abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Grey levels of RGBA: thousandths of red, green and blue (BT.601), rounded half up. */
export function toGrey({ data, width, height, channels }) {
  const grey = new Uint8ClampedArray(width * height);
  for (let i = 0, at = 0; i < grey.length; i++, at += channels)
    grey[i] = floor((299 * data[at] + 587 * data[at + 1] + 114 * data[at + 2] + 500) / 1000);
  return { data: grey, width, height, channels: 1 };
}

/** Which of `length` source rows make up each of `size` rows, and their weights, in float32. */
function spans(length, size) {
  const scale = fround(1 / fround(size / length));
  const radius = max(scale, 1);
  return Array.from({ length: size }, (_, row) => {
    const centre = fround((row + 0.5) * scale);
    const within = (x) => min(max(x, 0), length - 1);
    const start = within(ceil(fround(fround(centre - radius) - 0.5)));
    const end = within(floor(fround(fround(centre + radius) - 0.5))) + 1;
    const weights = [];
    let total = 0;
    for (let source = start; source < end; source++) {
      const distance = abs(fround(fround(source + 0.5 - centre) * fround(1 / radius)));
      weights.push(max(fround(1 - distance), 0));
      total = fround(total + weights.at(-1));
    }
    return { start, weights: weights.map((weight) => fround(weight * fround(1 / total))) };
  });
}

/** Scales one axis: `before` lines along it, each of `step` values, in every one of `blocks`. */
function scaled(values, blocks, before, size, step) {
  const found = new Float32Array(blocks * size * step);
  spans(before, size).forEach(({ start, weights }, row) => {
    for (let block = 0; block < blocks; block++)
      weights.forEach((weight, i) => {
        const target = (block * size + row) * step, source = (block * before + start + i) * step;
        for (let k = 0; k < step; k++)
          found[target + k] += fround(weight * values[source + k]);
      });
  });
  return found;
}

/** Antialiased bilinear scaling, every axis on its own; rounds half to even. */
export function resize({ data, width, height, channels }, newWidth, newHeight) {
  const rows = scaled(data, 1, height, newHeight, width * channels);
  const both = scaled(rows, newHeight, width, newWidth, channels);
  return { data: Uint8ClampedArray.from(both), width: newWidth, height: newHeight, channels };
}

/** A part of an image. Beyond its rim: the border's pixels again, or black. */
export function part(image, left, top, width, height, beyond = "border") {
  const { channels } = image, data = new Uint8ClampedArray(width * height * channels);
  for (let y = 0, to = 0; y < height; y++) {
    const row = min(max(top + y, 0), image.height - 1);
    for (let x = 0; x < width; x++, to += channels) {
      const column = min(max(left + x, 0), image.width - 1);
      if (beyond === "black" && (row !== top + y || column !== left + x)) continue;
      const from = (row * image.width + column) * channels;
      for (let c = 0; c < channels; c++) data[to + c] = image.data[from + c];
    }
  }
  return { data, width, height, channels };
}

/** The levels that the model takes of a picture or a part of it: `size` x `size`, grey. */
export function toFace(image, size) {
  const grey = toGrey(image);
  return image.width === size && image.height === size ? grey.data : resize(grey, size, size).data;
}
