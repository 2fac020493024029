// The page: pictures and camera frames in, faces and bars out. Nothing is sent anywhere.

import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";
import { detector } from "./faces.js";
import { part, rint, toFace } from "./pixels.js";

const CUT_OUT = 64, FILLS = 0.75; // pixels, part of a side: a face already, as predict has it
const IN_PICTURES = 40, IN_FILMS = 64, LARGEST = 5e7; // pixels: smallest faces, largest picture

const at = (id) => document.getElementById(id);
const canvas = at("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
export const shown = { image: null, faces: [], chosen: 0, drawn: null }; // drawn: the visitor's square
let about, classify, detect, stream, busy = Promise.resolve(); // Without detect the visitor marks.

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const best = (values) => values.indexOf(Math.max(...values));
const cut = (image, square) => (square ? part(image, square[0], square[1], square[2], square[2]) : image);

function say(text, wrong = false) {
  at("status").classList.toggle("wrong", wrong);
  if (at("status").textContent !== text) at("status").textContent = text;
}

/** One thing after the other: the networks work for one caller at a time. */
const enqueue = (task) =>
  (busy = busy.then(task).catch((error) => say(`That did not work: ${error.message}`, true)));

/** Opens a .tflite file: a function of its input's values that gives its outputs. */
async function openModel(file) {
  const bytes = new Uint8Array(await (await fetch(file)).arrayBuffer());
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });
  const [{ dtype, shape }] = model.getInputDetails();
  const kind = dtype === "uint8" ? Uint8Array : Float32Array;
  return async (values) => {
    const tensor = new Tensor(new kind(values), [...shape]), outputs = await model.run(tensor);
    const found = outputs.map((output) => output.toTypedArray().slice());
    for (const one of [tensor, ...outputs]) one.delete(); // LiteRT's memory is freed by hand.
    return found;
  };
}

/** The probabilities of a face: an RGBA image, cut out already -> one number a class. */
export async function answer(image) {
  const [found] = await classify(toFace(image, about.input));
  return Array.from(found, (value) => value * about.scale);
}

/** The square to cut for a detector's edges: left, top and side in whole pixels. */
function toSquare([left, top, right, bottom]) {
  const wide = Math.max(right - left, bottom - top), side = Math.max(1, rint(about.side * wide));
  const start = [(left + right - side) / 2, (top + bottom - side) / 2 - about.up * wide];
  return [...start.map(rint), side];
}

/** The faces in a picture from left to right: squares, none for all of it, and probabilities. */
export async function find(image, smallest = IN_PICTURES) {
  const longer = Math.max(image.width, image.height), whole = [{ square: null }];
  let faces = longer <= CUT_OUT ? whole : [];
  if (longer > CUT_OUT && detect) {
    const found = (await detect(image, smallest)).sort((a, b) => a.edges[0] - b.edges[0]);
    faces = found.map(({ edges }) => ({ edges, square: toSquare(edges) }));
    if (faces.length === 1 && faces[0].square[2] >= FILLS * longer) faces = whole;
  }
  for (const face of faces) face.probabilities = await answer(cut(image, face.square));
  return faces;
}

/** Draws a picture or a frame on the canvas and reads its pixels. */
function read(source, width, height) {
  Object.assign(canvas, { width, height });
  pen.drawImage(source, 0, 0);
  return { data: pen.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

/** The pixels of a picture's file, upright, as they are stored; null if it cannot be read. */
export async function decode(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  const small = bitmap && bitmap.width * bitmap.height <= LARGEST;
  return small ? read(bitmap, bitmap.width, bitmap.height) : null;
}

function draw() {
  const { image, faces, chosen, drawn } = shown, longer = Math.max(image.width, image.height);
  pen.putImageData(new ImageData(image.data, image.width, image.height), 0, 0);
  for (const square of [...faces.map((face) => face.square), drawn].filter(Boolean)) {
    const strokeStyle = square === (drawn ?? faces[chosen].square) ? "#5fd0c5" : "#fff";
    Object.assign(pen, { strokeStyle, lineWidth: longer / 120, shadowColor: "#000", shadowBlur: 4 });
    pen.strokeRect(square[0], square[1], square[2], square[2]);
  }
  at("hint").hidden = true;
  canvas.classList.toggle("small", longer < 320);
  canvas.classList.toggle("drag", drawn !== null);
  canvas.classList.toggle("mirrored", Boolean(stream));
}

function showBars(probabilities) {
  [...at("bars").children].forEach((row, i) => {
    row.classList.toggle("first", i === best(probabilities));
    row.children[1].firstChild.style.setProperty("--part", probabilities[i] ?? 0);
    row.lastChild.textContent = percent(probabilities[i] ?? 0);
  });
}

function show(chosen) {
  const { faces } = shown, face = faces[chosen];
  shown.chosen = chosen;
  draw();
  showBars(face?.probabilities ?? []);
  at("next").hidden = stream || faces.length < 2;
  canvas.ariaLabel = `${stream ? "Camera" : "Picture"}, faces found: ${faces.length}`;
  if (!face) return say("No face in sight.");
  const of = faces.length > 1 ? `Face ${chosen + 1} of ${faces.length}` : "This face";
  say(`${of} looks ${about.labels[best(face.probabilities)]}`);
}

/** Finds and answers for the faces in an image, and shows how long that took. */
async function look(image, smallest) {
  const started = performance.now(), faces = await find(image, smallest);
  at("time").textContent = `${(performance.now() - started).toFixed(0)} ms a frame`;
  Object.assign(shown, { image, faces, drawn: null });
  show(stream ? best(faces.map((face) => face.square?.[2] ?? 0)) : 0);
}

async function open(file) {
  stop();
  const image = await decode(file);
  if (!image) return say("Choose a JPEG, PNG or WebP of up to 50 million pixels; that is none.", true);
  await look(image, IN_PICTURES);
  if (shown.faces.length) return;
  const { width, height } = image, side = 0.6 * Math.min(width, height);
  place([(width - side) / 2, (height - side) / 2, side]);
  say(`${detect ? "No face was found." : "This page cannot find faces by itself."} Drag a ` +
    "square around one, or move it with the arrow keys and size it with + and −.");
}

/** Has the visitor's square lie there, as far as the picture goes, and answers for it. */
function place([left, top, wanted]) {
  const { width, height } = shown.image, side = Math.min(Math.max(wanted, 8), width, height);
  const inside = (start, length) => Math.min(Math.max(start, 0), length - side);
  shown.drawn = [inside(left, width), inside(top, height), side].map(Math.floor);
  draw();
  enqueue(async () => showBars(await answer(cut(shown.image, shown.drawn))));
}

canvas.onpointerdown = (event) => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  const spot = ({ clientX, clientY }) => [(clientX - box.left) * scale, (clientY - box.top) * scale];
  if (!shown.drawn) return;
  const start = spot(event);
  canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = (moved) => {
    const end = spot(moved), side = Math.max(...end.map((v, i) => Math.abs(v - start[i])));
    place([...end.map((v, i) => (v < start[i] ? start[i] - side : start[i])), side]);
  };
  canvas.onlostpointercapture = () => { canvas.onpointermove = null; };
};

canvas.onkeydown = (event) => {
  const step = Math.ceil((shown.drawn?.[2] ?? 0) / 10);
  const half = step / 2, move = { "+": [-half, -half, step], "-": [half, half, -step],
    ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0],
    ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0] }[event.key];
  if (!shown.drawn || !move) return;
  event.preventDefault();
  place(shown.drawn.map((value, i) => value + move[i]));
};

async function watch() {
  const video = at("video"), wanted = { width: 640, height: 480, facingMode: "user" };
  stream = await navigator.mediaDevices?.getUserMedia({ video: wanted }).catch(() => null);
  if (!stream) return say("No camera may be used here. Allow it, or choose a picture.", true);
  const mine = video.srcObject = stream;
  at("camera").textContent = "Stop the camera";
  await video.play();
  enqueue(async function step() {
    if (stream !== mine) return;
    await look(read(video, video.videoWidth, video.videoHeight), IN_FILMS);
    requestAnimationFrame(() => enqueue(step));
  });
}

function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  at("camera").textContent = "Use the camera";
}

const take = ([file]) => { if (file && classify) enqueue(() => open(file)); };
at("file").onchange = ({ target }) => { take(target.files); target.value = ""; };
at("next").onclick = () => show((shown.chosen + 1) % shown.faces.length);
at("camera").onclick = () => (stream ? stop() : watch());
document.onpaste = (event) => take(event.clipboardData.files);
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => { event.preventDefault(); take(event.dataTransfer.files); };
at("card").ontoggle = async ({ target }) => {
  target.lastChild.textContent ||= await (await fetch(about.card)).text();
};

function describe({ name, size, accuracy, images, data, labels }) {
  at("name").textContent = name;
  at("size").textContent = `${Math.round(size / 1000)} kB`;
  at("accuracy").textContent = `${percent(accuracy)} of ${images} faces (${data})`;
  at("bars").replaceChildren(...labels.map((label) => {
    const row = at("row").content.cloneNode(true);
    row.querySelector("span").textContent = label;
    return row;
  }));
}

/** Opens everything; says what cannot be opened. */
async function start() {
  let file = "page.json";
  try {
    describe(about = await (await fetch(file)).json());
    await loadLiteRt(file = "./litert/");
    classify = await openModel(file = about.model);
  } catch {
    return say(`${file} cannot be opened: it is damaged or missing. Export the page again.`, true);
  }
  detect = about.detector && await openModel(about.detector).then(detector, () => null);
  for (const id of ["file", "camera"]) at(id).disabled = false;
  say("Choose a picture of a face, or use the camera.");
}

start();
