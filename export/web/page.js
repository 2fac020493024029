// The page: pictures and camera frames in, faces and bars out. Nothing is sent anywhere.

import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";
import { detector } from "./faces.js";
import { part, rint, toFace } from "./pixels.js";
import { follower } from "./tracks.js";

const CUT_OUT = 64, FILLS = 0.75; // pixels, part of a side: a face already, as predict has it
const IN_PICTURES = 40, IN_FILMS = 64; // pixels: the smallest faces
const LARGEST = 1.6e7, LONGEST = 16384; // pixels, of all and of a side: what a canvas draws

const at = (id) => document.getElementById(id);
const canvas = at("canvas"), pen = canvas.getContext("2d");
const reader = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
// Chosen is the number of the face whose bars are seen, drawn the visitor's square.
export const shown = { image: null, live: false, faces: [] };
let about, classify, detect, follow, stream = null, start = [0, 0], busy = Promise.resolve();

const best = (values) => values.indexOf(Math.max(...values));
const name = (values) => `\u2068${about.labels[best(values)]}\u2069`; // whichever way it is written

function say(text, wrong = false) {
  at("status").classList.toggle("wrong", wrong);
  if (at("status").textContent !== text) at("status").textContent = text;
}

/** One thing after the other: the networks work for one caller at a time. */
const enqueue = (task) => (busy = busy.then(task).catch(({ message }) =>
  stop() ?? say(`That did not work: ${message}`, true)));

/** Opens a .tflite file: a function of its input's values that gives its outputs. */
async function openModel(file) {
  const model = await loadAndCompile(file, { accelerator: "wasm" });
  const [{ dtype, shape }] = model.getInputDetails();
  const kind = dtype === "uint8" ? Uint8Array : Float32Array;
  return async (values) => {
    const tensor = new Tensor(new kind(values), [...shape]), outputs = await model.run(tensor);
    const found = outputs.map((output) => output.toTypedArray().slice());
    for (const one of [tensor, ...outputs]) one.delete(); // LiteRT's memory is freed by hand.
    return found;
  };
}

/** The probabilities of a face, one a class; without a square all of the image is one. */
export async function answer(image, square) {
  const face = square ? part(image, ...square, square[2]) : image;
  const [found] = await classify(toFace(face, about.input));
  return Array.from(found, (value) => value * about.scale);
}

/** The square to cut for a detector's edges: left, top and side in whole pixels. */
function toSquare([left, top, right, bottom]) {
  const wide = Math.max(right - left, bottom - top), side = Math.max(1, rint(about.side * wide));
  const start = [(left + right - side) / 2, (top + bottom - side) / 2 - about.up * wide];
  return [...start.map(rint), side];
}

/** The faces in a picture from left to right: squares, none for all of it, and probabilities. */
export async function find(image, live = false) {
  const longer = Math.max(image.width, image.height), whole = [{ square: null }];
  let faces = longer <= CUT_OUT ? whole : [];
  if (longer > CUT_OUT && detect) {
    const found = await detect(image, live ? IN_FILMS : IN_PICTURES);
    found.sort((one, other) => one.edges[0] - other.edges[0]);
    faces = found.map(({ edges }, i) => ({ edges, square: toSquare(edges), number: i + 1 }));
    if (!live && faces.length === 1 && faces[0].square[2] >= FILLS * longer) faces = whole;
  }
  for (const face of faces) face.probabilities = await answer(image, face.square);
  return faces;
}

/** The pixels of a picture's file, upright, as they are stored, or of a frame; null for neither. */
export async function decode(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  if (!bitmap) return null;
  const sides = [bitmap.width, bitmap.height], area = bitmap.width * bitmap.height;
  const scale = Math.min(1, Math.sqrt(LARGEST / area), LONGEST / Math.max(...sides));
  const [width, height] = sides.map((side) => Math.ceil(side * scale));
  Object.assign(reader.canvas, { width, height });
  Object.assign(reader, { imageSmoothingQuality: "high" }).drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { data: reader.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

function draw() {
  const { image, faces, chosen, drawn } = shown, { width, height } = image;
  const mirror = shown.live && !drawn, size = Math.max(width, height) / 28, line = size / 4;
  Object.assign(canvas, { width, height });
  pen.putImageData(new ImageData(image.data, width, height), 0, 0);
  Object.assign(pen, { lineWidth: line, shadowColor: "#000", font: `bold ${size}px system-ui` });
  if (mirror) pen.setTransform(-1, 0, 0, 1, width, 0); // Letters are read from the left still.
  for (const { square, missed, number, probabilities } of [...faces, { square: drawn }]) {
    if (!square || missed) continue;
    const [left, top, side] = square, from = mirror ? width - left - side : left;
    const text = faces.length > 1 ? ` ${number} ${name(probabilities)} ` : "";
    const long = pen.measureText(text).width, start = Math.max(0, Math.min(from, width - long));
    const colour = number === chosen ? "#5fd0c5" : "#fff", foot = Math.max(top, 1.3 * size);
    Object.assign(pen, { strokeStyle: colour, fillStyle: colour, shadowBlur: line });
    pen.strokeRect(from, top, side, side);
    pen.fillRect(start, foot - 1.3 * size, long, 1.3 * size);
    Object.assign(pen, { fillStyle: "#000", shadowBlur: 0 }).fillText(text, start, foot - line);
  }
  canvas.className = `${mirror ? "mirror" : ""} ${drawn ? "drag" : ""} ${size < 12 ? "small" : ""}`;
}

function showBars(probabilities) {
  [...at("bars").children].forEach((row, i) => {
    const percent = 100 * (probabilities[i] ?? 0);
    row.classList.toggle("first", i === best(probabilities));
    row.children[1].style.backgroundSize = `${percent}% 100%`;
    row.lastChild.textContent = `${percent.toFixed(1)} %`;
  });
}

function show(face) {
  const { live, faces } = shown;
  shown.chosen = face?.number;
  draw();
  showBars(face?.probabilities ?? []);
  at("next").hidden = faces.length < 2;
  canvas.ariaLabel = `${live ? "Camera" : "Picture"}, faces found: ${faces.length}`;
  const which = faces.length > 1 ? `Face ${face.number}` : "This face";
  say(face ? `${which} looks ${name(face.probabilities)}` : "No face in sight.");
}

/** Finds and answers for the faces in an image, and shows how long that took. */
async function look(image, live) {
  const started = performance.now(), found = await find(image, live);
  const faces = live ? follow(found) : found, size = ({ square }) => square?.[2] ?? 0;
  at("time").textContent = `${(performance.now() - started).toFixed(0)} ms a frame`;
  const { chosen, drawn } = live && shown.live ? shown : {};
  Object.assign(shown, { image, live, faces, drawn });
  const [largest] = [...faces].sort((one, other) => size(other) - size(one));
  show(faces.find(({ number }) => number === chosen) ?? largest);
  if (faces.length || (live && detect)) return;
  const { width, height } = image, side = 0.6 * Math.min(width, height);
  place(...(shown.drawn ?? [(width - side) / 2, (height - side) / 2, side]));
  say(`${detect ? "No face was found." : "This page cannot find faces by itself."} Drag a ` +
    "square around one, or move it with the arrow keys and size it with + and −.");
}

/** Has the visitor's square lie there, as far as the picture goes, and answers for it. */
function place(left, top, wanted) {
  const { image } = shown, { width, height } = image;
  const side = Math.min(Math.max(wanted, 8), width, height);
  const inside = (start, length) => Math.min(Math.max(start, 0), length - side);
  const drawn = shown.drawn = [inside(left, width), inside(top, height), side].map(Math.floor);
  draw();
  enqueue(async () => { if (shown.drawn === drawn) showBars(await answer(image, drawn)); });
}

const spot = ({ offsetX, offsetY }) => // in pixels of the picture
  [offsetX, offsetY].map((pixels) => (pixels * canvas.width) / canvas.clientWidth);

canvas.onpointerdown = (event) => { start = spot(event); };
canvas.onpointermove = (event) => {
  if (!shown.drawn || !event.buttons) return;
  canvas.setPointerCapture(event.pointerId);
  const end = spot(event), side = Math.max(...end.map((v, i) => Math.abs(v - start[i])));
  place(...start.map((v, i) => (end[i] < v ? v - side : v)), side);
};

canvas.onkeydown = (event) => {
  const [left, top, side] = shown.drawn ?? [], step = Math.ceil(side / 10), half = step / 2;
  const to = { ArrowLeft: [left - step, top, side], ArrowRight: [left + step, top, side],
    ArrowUp: [left, top - step, side], ArrowDown: [left, top + step, side],
    "+": [left - half, top - half, side + step], "-": [left + half, top + half, side - step] };
  if (!side || !to[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  place(...to[event.key]);
};

async function watch() {
  const video = at("video"), wanted = { width: 640, height: 480, facingMode: "user" };
  const mine = stream = new MediaStream(); // Empty until the visitor allows a camera.
  at("camera").textContent = "Stop the camera";
  const given = await navigator.mediaDevices?.getUserMedia({ video: wanted }).catch(() => null);
  given?.getTracks().forEach((track) => mine.addTrack(track));
  if (stream !== mine) return given?.getTracks().forEach((track) => track.stop());
  Object.assign(video, { srcObject: mine }).play().catch(() => null);
  [follow, shown.live] = [follower(), false];
  enqueue(async function step() {
    if (stream !== mine) return;
    if (!mine.active) throw new Error("there is no camera, or it may not be used here");
    await decode(video).then((frame) => frame && look(frame, true));
    requestAnimationFrame(() => enqueue(step));
  });
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at("camera").textContent = "Use the camera";
}

const take = ([file]) => file && classify && enqueue(async () => {
  stop();
  say("Looking for faces…");
  await new Promise((done) => setTimeout(done, 20)); // So that it can be read.
  const image = await decode(file);
  if (image) return look(image, false);
  say("Choose a JPEG, PNG or WebP; this browser cannot read that file." +
    (shown.image ? " What is shown is the picture before." : ""), true);
});
at("file").onchange = ({ target }) => { take(target.files); target.value = ""; };
at("next").onclick = () => {
  const numbers = shown.faces.map(({ number }) => number);
  show(shown.faces[(numbers.indexOf(shown.chosen) + 1) % numbers.length]);
};
at("camera").onclick = () => (stream ? stop() : watch());
document.onpaste = (event) => take(event.clipboardData.files);
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => { event.preventDefault(); take(event.dataTransfer.files); };

/** Opens everything; says what cannot be opened. */
async function load() {
  let file = "page.json";
  try {
    about = await (await fetch(file)).json();
    await loadLiteRt(file = "./litert/");
    classify = await openModel(file = about.model);
  } catch {
    return say(`${file} cannot be opened: it is damaged or missing. Export the page again.`, true);
  }
  detect = about.detector && await openModel(about.detector).then(detector, () => null);
  for (const id of ["file", "camera"]) at(id).disabled = false;
  say("Choose a picture of a face, or use the camera.");
}

load();
