// Finds faces of any size with BlazeFace, as fer_pipeline/inference/faces does: a first look at the
// picture as a whole and in overlapping tiles, and a second at whatever may be a face. A find is
// { score, edges }, these left, top, right and bottom in pixels.

import { part, resize, rint } from "./pixels.js";

const SIZE = 192, STRIDE = 4, ROW = 16; // the network's input; pixels and numbers an anchor
const SEEN = 18, MAYBE = 0.4, SURE = 0.55, SECOND_LOOK = 4, SAME = 0.3, INSIDE = 0.7;
const OVERLAP = 0.25, WITH_RIM = 1.5, MAX_STEPS = 3;

/** Makes a detector of a network: image, smallest width -> finds, the surest first. */
export const detector = (run) => async (image, smallest) => {
  const longer = Math.max(image.width, image.height);
  for (const wanted of [sides(longer, (smallest * SIZE) / SEEN), [WITH_RIM * longer]]) {
    const { found, levels } = await search(run, image, wanted), sure = [];
    for (const { edges } of surest(found)) sure.push(...(await lookAgain(run, levels, edges)));
    if (sure.length) return surest(sure);
  }
  return [];
};

/** The sides of the views of a picture, from the finest to its longer side. */
function sides(longer, finest) {
  const steps = Math.min(MAX_STEPS, Math.max(0, Math.ceil(Math.log2(longer / finest))));
  const ratio = steps ? (longer / Math.max(finest, longer / 2 ** MAX_STEPS)) ** (1 / steps) : 1;
  return Array.from({ length: steps + 1 }, (_, step) => longer / ratio ** (steps - step));
}

/** Where views begin that cover a length, each sharing a quarter with the next at least. */
function starts(length, side) {
  const free = length - side, count = 1 + Math.ceil(free / (side * (1 - OVERLAP)));
  return free > 0 ? Array.from({ length: count }, (_, i) => (free * i) / (count - 1)) : [free / 2];
}

/** What may be a face, in views of these sides, and the picture at their scales. */
async function search(run, image, wanted) {
  const found = [], levels = [{ image, side: SIZE }]; // side: of the part that the input takes
  for (const side of wanted) {
    const at = (pixels) => rint((pixels * SIZE) / side), size = (pixels) => Math.max(1, at(pixels));
    const smaller = resize(levels.at(-1).image, size(image.width), size(image.height));
    levels.push({ image: smaller, side });
    for (const top of starts(image.height, side))
      for (const left of starts(image.width, side)) {
        const seen = part(smaller, at(left), at(top), SIZE, SIZE, true);
        const maybe = await look(run, seen, left, top, side, MAYBE);
        found.push(...maybe.filter(({ edges }) => !isCut(edges, left, top, side, image)));
      }
  }
  return { found, levels };
}

/** Whether a view cuts a face off where the picture itself does not. */
const isCut = (edges, left, top, side, { width, height }) => [left, top].some((start, i) =>
  start > Math.max(0, edges[i]) || start + side < Math.min([width, height][i], edges[i + 2]));

/** The finds of the network in a square view; neighbouring anchors find the same face. */
async function look(run, { data, channels }, left, top, side, lowest) {
  const levels = new Float32Array(SIZE * SIZE * 3);
  for (let i = 0, at = 0; i < levels.length; i += 3, at += channels)
    for (let c = 0; c < 3; c++) levels[i + c] = data[at + c] / 127.5 - 1;
  const [numbers, logits] = (await run(levels)).sort((one, other) => other.length - one.length);
  const across = SIZE / STRIDE, found = [];
  logits.forEach((logit, anchor) => {
    const score = 1 / (1 + Math.exp(-logit));
    if (score < lowest) return;
    // From the anchor, in pixels of the input: centre and size; the rest are points of the face.
    const [dx, dy, width, height] = numbers.subarray(anchor * ROW);
    const x = dx + ((anchor % across) + 0.5) * STRIDE;
    const y = dy + (Math.floor(anchor / across) + 0.5) * STRIDE;
    const edges = [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
    found.push({ score, edges: edges.map((v, i) => (v * side) / SIZE + (i % 2 ? top : left)) });
  });
  return found;
}

/** Looks from the distance that the network knows best: the face that it sees there, or none. */
async function lookAgain(run, levels, edges) {
  const side = SECOND_LOOK * Math.max(edges[2] - edges[0], edges[3] - edges[1]);
  // With two pixels for one of the input: a face may fill millions of the picture's own.
  const level = levels.findLast((one) => 2 * one.side <= side) ?? levels[0];
  const scale = SIZE / level.side, length = Math.max(1, rint(side * scale));
  const [left, top] = [0, 1].map((i) => rint(((edges[i] + edges[i + 2] - side) / 2) * scale));
  const square = resize(part(level.image, left, top, length, length, true), SIZE, SIZE);
  const found = await look(run, square, left / scale, top / scale, length / scale, SURE);
  const near = found.filter((one) => shares(edges, one.edges)[0] > SAME);
  const [best] = near.sort((one, other) => other.score - one.score);
  if (!best) return [];
  // MediaPipe's weighted non-maximum suppression: the mean of those much like the surest.
  const alike = near.filter((one) => one === best || shares(best.edges, one.edges)[0] > SAME);
  const sum = (value) => alike.reduce((total, one) => total + one.score * value(one), 0);
  const mean = edges.map((_, i) => sum((one) => one.edges[i]) / sum(() => 1));
  return [{ score: best.score, edges: mean }];
}

/** What two boxes share: intersection over union, and over the smaller one. */
export function shares(a, b) {
  const length = (i) => Math.max(0, Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i]));
  const [one, other] = [a, b].map((box) => (box[2] - box[0]) * (box[3] - box[1]));
  const shared = length(0) * length(1), tiny = 1e-38;
  return [one + other - shared, Math.min(one, other)].map((area) => shared / Math.max(area, tiny));
}

/** The surest find of every face: no other shares enough with it. */
function surest(found) {
  const [first, ...others] = [...found].sort((one, other) => other.score - one.score);
  if (!first) return [];
  const isOther = ([union, inside]) => union <= SAME && inside <= INSIDE;
  return [first, ...surest(others.filter(({ edges }) => isOther(shares(first.edges, edges))))];
}
