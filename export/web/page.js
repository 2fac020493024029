// The page: pictures and camera frames in, faces and bars out. Nothing is sent anywhere.

import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";
import { detector } from "./faces.js";
import { part, rint, toFace } from "./pixels.js";

const CUT_OUT = 64, FILLS = 0.75; // what counts as a face already: predict's --faces=auto
const IN_PICTURES = 40, IN_FILMS = 64; // smallest faces looked for
const LARGEST = 5e7; // pixels

const at = (id) => document.getElementById(id);
const canvas = at("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
const shown = { image: null, faces: [], chosen: 0, square: null };
let about, classify, detect, stream, busy = Promise.resolve();

function say(text, wrong = false) {
  at("status").classList.toggle("wrong", wrong);
  if (at("status").textContent !== text) at("status").textContent = text;
}

const percent = (part) => `${(100 * part).toFixed(1)} %`;

/** Opens a .tflite file: a function of its input's values that gives its outputs. */
async function openModel(file) {
  const answer = await fetch(file);
  if (!answer.ok) throw new Error(`${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });
  const [{ dtype, shape }] = model.getInputDetails();
  const kind = dtype === "uint8" ? Uint8Array : Float32Array;
  return async (values) => {
    const tensor = new Tensor(kind.from(values), [...shape]);
    try {
      return (await model.run(tensor)).map((output) => {
        const found = output.toTypedArray().slice();
        output.delete();
        return found;
      });
    } finally {
      tensor.delete(); // LiteRT's memory is freed by hand
    }
  };
}

/** Probabilities of a picture or a part of it: RGBA image -> one number a class. */
export async function answer(image) {
  const [found] = await classify(toFace(image, about.input));
  return [...found].map((value) => value * about.scale);
}

/** The square that is cut out for a detector's box: left, top, side. */
export function square([left, top, width, height]) {
  const wide = Math.max(width, height), side = Math.max(1, rint(about.side * wide));
  const x = left + width / 2, y = top + height / 2 - about.up * wide;
  return [rint(x - side / 2), rint(y - side / 2), side];
}

/** The faces in an image: for each its square, null for all of it, and its probabilities. */
export async function find(image, smallest = IN_PICTURES) {
  const longer = Math.max(image.width, image.height), whole = [{ square: null }];
  let squares = longer <= CUT_OUT ? whole : null;
  if (!squares && detect) {
    const found = (await detect(image, smallest)).sort((one, other) => one.box[0] - other.box[0]);
    squares = found.map(({ box, score }) => ({ box, score, square: square(box) }));
    if (squares.length === 1 && squares[0].square[2] >= FILLS * longer) squares = whole;
  }
  for (const face of squares ?? []) face.probabilities = await answer(cut(image, face.square));
  return squares ?? [];
}

export const cut = (image, place) => place ? part(image, place[0], place[1], place[2], place[2]) : image;

/** Draws a picture or a video's frame on the canvas and reads its pixels. */
export function read(source, width, height) {
  Object.assign(canvas, { width, height });
  pen.drawImage(source, 0, 0);
  return { data: pen.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

function draw() {
  const { image, faces, chosen, square: dragged } = shown;
  pen.putImageData(new ImageData(image.data, image.width, image.height), 0, 0);
  const line = Math.max(1, Math.max(image.width, image.height) / 250);
  [...faces.map((face) => face.square), dragged].forEach((place, number) => {
    if (!place) return;
    const main = number === chosen || place === dragged;
    for (const [colour, width] of [["#000a", 2 * line], [main ? "#5fd0c5" : "#fff", line]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: main ? 1.5 * width : width });
      pen.strokeRect(place[0], place[1], place[2], place[2]);
    }
  });
  at("drop").classList.add("full");
  canvas.classList.toggle("small", Math.max(image.width, image.height) < 320);
}

const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

function showBars(probabilities) {
  [...at("bars").children].forEach((row, i) => {
    row.classList.toggle("first", Boolean(probabilities) && i === best(probabilities));
    row.querySelector(".fill").style.setProperty("--part", probabilities?.[i] ?? 0);
    row.lastChild.textContent = probabilities ? percent(probabilities[i]) : "";
  });
}

function show() {
  const { faces, chosen } = shown, face = faces[chosen];
  draw();
  showBars(face?.probabilities);
  const buttons = at("faces");
  while (buttons.children.length > (faces.length > 1 ? faces.length : 0)) buttons.lastChild.remove();
  for (let i = buttons.children.length; i < faces.length && faces.length > 1; i++) {
    const button = buttons.appendChild(Object.assign(document.createElement("button"), { type: "button" }));
    button.onclick = () => { shown.chosen = i; show(); };
  }
  [...buttons.children].forEach((button, i) => {
    button.textContent = `${i + 1}: ${about.labels[best(faces[i].probabilities)]}`;
    button.ariaPressed = i === chosen;
  });
  canvas.classList.toggle("drag", !stream && !face);
  if (!face) return;
  const label = about.labels[best(face.probabilities)];
  const of = faces.length > 1 ? `Face ${chosen + 1} of ${faces.length} looks ` : "This face looks ";
  say(stream ? of + label : `${of}${label}: ${percent(Math.max(...face.probabilities))}`);
  canvas.ariaLabel = `${stream ? "Camera" : "Picture"} with ${faces.length} marked face(s)`;
}

/** Finds and answers for the faces in an image, and shows how long that took. */
async function look(image, smallest) {
  const started = performance.now();
  const faces = await find(image, smallest);
  const took = performance.now() - started;
  const chosen = stream ? largest(faces) : 0;
  Object.assign(shown, { image, faces, chosen, square: null });
  at("time").textContent = `${took.toFixed(1)} ms a frame`;
  show();
}

const largest = (faces) => faces.reduce((most, face, i) =>
  (face.square?.[2] > (faces[most].square?.[2] ?? 0) ? i : most), 0);

/** Answers for one picture file. */
async function open(blob) {
  stop();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    return say("That file is no picture that this browser can read. Choose a JPEG, PNG or WebP.", true);
  }
  if (bitmap.width * bitmap.height > LARGEST)
    return say("That picture has more than 50 million pixels. Choose a smaller one.", true);
  await look(read(bitmap, bitmap.width, bitmap.height), IN_PICTURES);
  if (!shown.faces.length) offerSquare();
}

/** Has the visitor mark a face where none was found. */
function offerSquare() {
  const { width, height } = shown.image, side = Math.round(0.6 * Math.min(width, height));
  place([Math.round((width - side) / 2), Math.round((height - side) / 2), side]);
  const why = detect ? "No face was found." : "This page cannot find faces by itself.";
  say(`${why} Drag a square around one, or move it with the arrow keys and size it with + and −.`);
  canvas.ariaLabel = "Picture; arrow keys move the square, plus and minus change its size";
}

/** Moves the visitor's square, and answers for what lies in it. */
function place([left, top, side]) {
  const within = Math.min(Math.max(side, 8), Math.min(shown.image.width, shown.image.height));
  const [x, y] = [[left, shown.image.width], [top, shown.image.height]].map(
    ([start, length]) => Math.round(Math.min(Math.max(start, 0), length - within)));
  shown.square = [x, y, Math.round(within)];
  draw();
  enqueue(async () => showBars(await answer(cut(shown.image, shown.square))));
}

canvas.onpointerdown = (event) => {
  const scale = canvas.width / canvas.clientWidth, box = canvas.getBoundingClientRect();
  const spot = (e) => [(e.clientX - box.left) * scale, (e.clientY - box.top) * scale];
  const from = spot(event);
  const hit = shown.faces.findIndex(({ square: s }) =>
    s && from[0] >= s[0] && from[1] >= s[1] && from[0] < s[0] + s[2] && from[1] < s[1] + s[2]);
  if (hit >= 0 && !stream) { shown.chosen = hit; show(); }
  if (!shown.square) return;
  canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = (e) => {
    const to = spot(e), side = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    place([to[0] < from[0] ? from[0] - side : from[0], to[1] < from[1] ? from[1] - side : from[1], side]);
  };
  canvas.onpointerup = canvas.onpointercancel = () => { canvas.onpointermove = null; };
};

canvas.onkeydown = (event) => {
  const step = Math.ceil((shown.square?.[2] ?? 0) / 10), moves = { ArrowLeft: [-step, 0, 0],
    ArrowRight: [step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0],
    "+": [-step / 2, -step / 2, step], "=": [-step / 2, -step / 2, step], "-": [step / 2, step / 2, -step] };
  if (!shown.square || !moves[event.key]) return;
  event.preventDefault();
  place(shown.square.map((value, i) => value + moves[event.key][i]));
};

/** One thing after the other: the model runs for one caller at a time. */
function enqueue(task) {
  busy = busy.then(task).catch((error) => say(`That did not work: ${error.message}`, true));
  return busy;
}

async function watch() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
  } catch {
    return say("There is no camera that this page may use. Allow it in the browser, or choose a picture.", true);
  }
  const video = at("video"), mine = stream;
  video.srcObject = stream;
  await video.play();
  Object.assign(at("camera"), { textContent: "Stop the camera", ariaPressed: "true" });
  canvas.classList.add("mirrored");
  const step = async () => {
    if (stream !== mine) return;
    await look(read(video, video.videoWidth, video.videoHeight), IN_FILMS);
    if (!shown.faces.length) say("No face in sight.");
    requestAnimationFrame(() => enqueue(step));
  };
  enqueue(step);
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  Object.assign(at("camera"), { textContent: "Use the camera", ariaPressed: "false" });
  canvas.classList.remove("mirrored");
}

const take = (files) => {
  const [file] = files ?? [];
  if (file && classify) enqueue(() => open(file));
};
at("file").onchange = (event) => { take(event.target.files); event.target.value = ""; };
at("camera").onclick = () => { if (stream) stop(); else watch(); };
document.onpaste = (event) => take(event.clipboardData.files);
document.ondragover = (event) => { event.preventDefault(); at("drop").classList.add("over"); };
document.ondragleave = () => at("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take(event.dataTransfer.files);
};
at("card").ontoggle = async (event) => {
  const text = event.target.querySelector("pre");
  if (!text.textContent) text.textContent = await (await fetch(about.card)).text();
};

function describe() {
  at("size").textContent = `${Math.round(about.size / 1000).toLocaleString("en")} kB`;
  const facts = { Model: about.name, Size: at("size").textContent,
    Accuracy: `${percent(about.accuracy)} of ${about.images.toLocaleString("en")} faces (${about.data})` };
  for (const [name, value] of Object.entries(facts)) {
    const pair = at("model").appendChild(document.createElement("div"));
    for (const [tag, text] of [["dt", name], ["dd", value]])
      pair.appendChild(document.createElement(tag)).textContent = text;
  }
  for (const label of about.labels) {
    const row = at("bars").appendChild(document.createElement("li"));
    row.innerHTML = '<span class="name"></span><span class="track" aria-hidden="true"><span class="fill"></span></span><span></span>';
    row.firstChild.textContent = label;
  }
}

/** Opens everything; resolves to whether the page can answer. */
async function start() {
  let step = "page.json";
  try {
    about = await (await fetch(step)).json();
    describe();
    step = "litert/";
    await loadLiteRt("./litert/");
    step = about.model;
    classify = await openModel(step);
    await answer({ data: new Uint8Array(4 * about.input ** 2), width: about.input, height: about.input, channels: 4 });
  } catch {
    classify = null;
    say(`${step} cannot be opened: it is damaged or missing. Export the page again.`, true);
    return false;
  }
  try {
    detect = about.detector ? detector(await openModel(about.detector)) : null;
  } catch { /* The visitor marks the face then. */ }
  for (const id of ["file", "camera"]) at(id).disabled = false;
  say("Choose a picture of a face, or use the camera.");
  return true;
}

export const ready = start();
