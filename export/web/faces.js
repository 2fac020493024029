// Finds faces of any size with BlazeFace, as fer_pipeline/inference/faces does: a first look at the
// picture as a whole and in overlapping tiles, and a second at whatever may be a face.

import { part, resize, rint } from "./pixels.js";

const SIZE = 192, STRIDE = 4; // of the network's input, and from one anchor to the next
const SEEN = 18, MAYBE = 0.4, SURE = 0.55, SECOND_LOOK = 4, SAME = 0.3, INSIDE = 0.7;
const OVERLAP = 0.25, WITH_RIM = 1.5, MAX_STEPS = 3;

/** Makes a detector of a network: RGBA image, smallest width -> [{ box, score }]. */
export function detector(run) {
  return async (image, smallest) => {
    const longer = Math.max(image.width, image.height);
    for (const wanted of [sides(longer, (smallest * SIZE) / SEEN), [WITH_RIM * longer]]) {
      const found = await search(run, image, wanted);
      if (found.length) return found;
    }
    return [];
  };
}

/** The sides of the views of a picture, from its longer side down to the finest. */
function sides(longer, finest) {
  const steps = Math.min(MAX_STEPS, Math.max(0, Math.ceil(Math.log2(longer / finest))));
  const ratio = steps ? (longer / Math.max(finest, longer / 2 ** MAX_STEPS)) ** (1 / steps) : 1;
  return Array.from({ length: steps + 1 }, (_, step) => longer / ratio ** step);
}

async function search(run, image, wanted) {
  const maybe = [];
  let smaller = image;
  // From the finest view to the coarsest, each scaled down from the one before.
  for (const side of [...wanted].reverse()) {
    const scale = SIZE / side;
    const [width, height] = [image.width, image.height].map((n) => Math.max(1, rint(n * scale)));
    smaller = resize(smaller, width, height);
    for (const top of starts(image.height, side))
      for (const left of starts(image.width, side)) {
        const view = { left, top, side };
        const seen = part(smaller, rint(left * scale), rint(top * scale), SIZE, SIZE, "black");
        const found = await look(run, seen, view, MAYBE);
        maybe.push(...found.filter(({ edges }) => !isCut(edges, view, image)));
      }
  }
  const sure = [];
  for (const [first] of groups(maybe)) {
    const again = await lookAgain(run, image, first.edges);
    if (again) sure.push(again);
  }
  return groups(sure).map(([{ edges: [left, top, right, bottom], score }]) =>
    ({ box: [left, top, right - left, bottom - top], score }));
}

/** Where views begin that cover a length, each sharing a quarter with the next at least. */
function starts(length, side) {
  const free = length - side;
  if (free <= 0) return [free / 2];
  const count = 1 + Math.ceil(free / (side * (1 - OVERLAP)));
  return Array.from({ length: count }, (_, i) => (free * i) / (count - 1));
}

/** The faces in a view, in pixels of the picture; neighbouring anchors find the same one. */
async function look(run, { data, channels }, view, lowest) {
  const levels = new Float32Array(SIZE * SIZE * 3);
  for (let i = 0; i < levels.length; i++)
    levels[i] = data[Math.floor(i / 3) * channels + (i % 3)] / 127.5 - 1;
  // One row an anchor: centre, size and points in 16 numbers, or the score.
  const [numbers, logits] = (await run(levels)).sort((one, other) => other.length - one.length);
  const found = [], across = SIZE / STRIDE;
  logits.forEach((logit, anchor) => {
    const score = 1 / (1 + Math.exp(-logit));
    if (score < lowest) return;
    const [x, y, width, height] = numbers.subarray(anchor * 16, anchor * 16 + 4);
    const middle = [x + ((anchor % across) + 0.5) * STRIDE,
      y + (Math.floor(anchor / across) + 0.5) * STRIDE];
    const edges = [-1, 1].flatMap((sign) =>
      [middle[0] + (sign * width) / 2, middle[1] + (sign * height) / 2]);
    const corner = [view.left, view.top, view.left, view.top];
    found.push({ score, edges: edges.map((v, i) => (v * view.side) / SIZE + corner[i]) });
  });
  return found;
}

/** Looks at what may be a face from the distance that the network knows best. */
async function lookAgain(run, image, edges) {
  const [left, top, right, bottom] = edges;
  const side = SECOND_LOOK * Math.max(right - left, bottom - top);
  const view = { left: (left + right - side) / 2, top: (top + bottom - side) / 2, side };
  const [x, y, x2, y2] =
    [view.left, view.top, view.left + side, view.top + side].map(rint);
  const square = part(image, x, y, Math.max(x2 - x, 1), Math.max(y2 - y, 1), "black");
  let found = await look(run, resize(square, SIZE, SIZE), view, SURE);
  found = found.filter((one) => shares(edges, one.edges).union > SAME);
  if (!found.length) return null;
  const best = found.reduce((one, other) => (other.score > one.score ? other : one));
  // MediaPipe's weighted non-maximum suppression: the mean of those much like the surest.
  const alike = found.filter((one) => shares(best.edges, one.edges).union > SAME);
  const total = alike.reduce((sum, one) => sum + one.score, 0);
  const mean = (i) => alike.reduce((sum, one) => sum + one.score * one.edges[i], 0) / total;
  return { score: best.score, edges: [0, 1, 2, 3].map(mean) };
}

/** Whether a view cuts a face off, where the picture itself does not. */
function isCut([left, top, right, bottom], view, { width, height }) {
  const end = [view.left + view.side, view.top + view.side];
  return (left < view.left && view.left > 0) || (top < view.top && view.top > 0) ||
    (right > end[0] && end[0] < width) || (bottom > end[1] && end[1] < height);
}

/** What two boxes share: intersection over union, and over the smaller one. */
function shares(a, b) {
  const sizes = [0, 1].map((i) => Math.max(0, Math.min(a[i + 2], b[i + 2]) - Math.max(a[i], b[i])));
  const [one, other] = [a, b].map((box) => (box[2] - box[0]) * (box[3] - box[1]));
  const shared = sizes[0] * sizes[1], tiny = 1e-38;
  return { union: shared / Math.max(one + other - shared, tiny),
    inside: shared / Math.max(Math.min(one, other), tiny) };
}

/** Groups finds by face: each with the surest one that it shares enough with. */
function groups(found) {
  const left = [...found].sort((one, other) => other.score - one.score), grouped = [];
  while (left.length) {
    const [first] = left, same = (one) => {
      const { union, inside } = shares(first.edges, one.edges);
      return one === first || union > SAME || inside > INSIDE;
    };
    grouped.push(left.filter(same));
    left.splice(0, left.length, ...left.filter((one) => !same(one)));
  }
  return grouped;
}
