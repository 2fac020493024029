"""The page's model beside what websites use today, in one headless Chromium.

    npm install @litertjs/core@2.5.3 @litertjs/wasm-utils@2.5.3 @vladmandic/face-api@1.7.15 \
        @vladmandic/human@3.3.6 @tensorflow/tfjs-backend-wasm@4.22.0
    python tests/proofs/web_rivals.py --data=fer2013.zip --modules=node_modules

First the whole page answers for frames of 640x480 with a face, with the compact network and with
the notebook's (its weights are random: they do not change the time). Then every model answers for
the same faces of PublicTest, in turns of 40: each gets a canvas, and the time runs until its
probabilities are there. The weights of the rivals come in their packages; both run on
TensorFlow.js' wasm backend with SIMD, on one thread like LiteRT.js. face-api is asked by its own
``predictExpressions``. Human asks its emotion network only for faces that it has found itself, so
here that network gets what ``src/gear/emotion.ts`` feeds it.

Two times are printed: that of the clock, a median, and that of the page's thread on a processor, a
mean. The latter is the one to compare where other programs run beside.
"""

import functools
import http.server
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

import chromium

from export.delivery import contents
from export.formats import litertjs, saved_model, tflite, web
from fer_pipeline import datasets
from fer_pipeline.datasets import synthetic
from fer_pipeline.inference import pretrained
from fer_pipeline.models import networks

_DATA = flags.DEFINE_string("data", None, "fer2013.zip", required=True)
_MODULES = flags.DEFINE_string("modules", "node_modules", "Where npm has put the packages.")
_COUNT = flags.DEFINE_integer("count", 3589, "Faces, evenly drawn from the 3,589 of PublicTest.")
_FRAMES = flags.DEFINE_integer("frames", 30, "Frames of each page.")

#: Faces that a model answers for before the next one does.
_TURN = 40

PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>Race</title>
<script type="importmap">
{"imports": {"@litertjs/wasm-utils": "./compact/litert/wasm-utils.js"}}</script><body>"""

#: Their classes in the order of ours: angry, disgust, fear, happy, neutral, sad, surprise.
PREPARE = """(async () => {
  const size = 48, bytes = async (file) => new Uint8Array(await (await fetch(file)).arrayBuffer());
  const faces = await bytes("faces.bin"), canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const put = (number) => {
    const image = pen.createImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      image.data.fill(faces[number * size * size + i], 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
  };

  const { loadLiteRt, loadAndCompile, Tensor } = await import("./compact/litert/index.js");
  const { toFace } = await import("./compact/pixels.js");
  await loadLiteRt("./compact/litert/");
  const file = await bytes("compact/model_int8.tflite");
  const ours = await loadAndCompile(file, { accelerator: "wasm" });
  const litert = async () => {
    const { data } = pen.getImageData(0, 0, size, size);
    const face = toFace({ data, width: size, height: size, channels: 4 }, size);
    const input = new Tensor(new Uint8Array(face), [1, size, size, 1]);
    const [output] = await ours.run(input), found = [...output.toTypedArray()];
    input.delete(); output.delete();
    return found;
  };

  const wasm = "./modules/@tensorflow/tfjs-backend-wasm/dist/";
  const faceapi = await import("./modules/@vladmandic/face-api/dist/face-api.esm.js");
  faceapi.tf.setWasmPaths(wasm);
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  await faceapi.nets.faceExpressionNet.loadFromUri("./modules/@vladmandic/face-api/model/");
  const api = async () => {
    const found = await faceapi.nets.faceExpressionNet.predictExpressions(canvas);
    return ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"]
      .map((label) => found[label]);
  };

  const { default: Human } = await import("./modules/@vladmandic/human/dist/human.esm.js");
  const human = new Human({ backend: "wasm", wasmPath: wasm });
  await human.init();
  const { tf } = human;
  const emotion = await tf.loadGraphModel("./modules/@vladmandic/human/models/emotion.json");
  const input = emotion.inputs[0].shape, weights = tf.tensor1d([0.2989, 0.5870, 0.1140]);
  const gear = async () => {
    const output = tf.tidy(() => {
      const image = tf.div(tf.expandDims(tf.browser.fromPixels(canvas), 0), 255);
      const resized = tf.image.resizeBilinear(image, [input[2], input[2]], false);
      const grey = tf.sum(tf.mul(resized, weights), 3, true);
      return emotion.execute(tf.mul(tf.sub(grey, 0.5), 2));
    });
    const found = await output.data();
    output.dispose();
    // angry, disgust, fear, happy, sad, surprise, neutral
    return [0, 1, 2, 3, 6, 4, 5].map((i) => found[i]);
  };

  window.racers = { litert, api, gear, nothing: async () => [] };
  window.race = async (name, first, last) => {
    const rows = [];
    for (let number = first; number < last; number++) {
      put(number);
      const started = performance.now(), found = await racers[name]();
      rows.push([performance.now() - started, found.indexOf(Math.max(...found))]);
    }
    return rows;
  };
  for (const name of Object.keys(racers)) await race(name, 0, 20);
  return [faceapi.tf.getBackend(), tf.getBackend(), input.join("x")].join(", ");
})()"""

NAMES = {
    "litert": "the page's model_int8.tflite",
    "api": "@vladmandic/face-api 1.7.15",
    "gear": "@vladmandic/human 3.3.6",
    "nothing": "the canvas alone, part of all three",
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Follows links, as ``export.serve`` does not."""

    def log_message(self, *_):
        pass


def make_site(root, images):
    """Both pages, the faces, and a link to the rivals."""
    runtime = litertjs.read(_MODULES.value)
    given = contents.check_files(pretrained.FOLDER)
    web.write(root / "compact", pretrained.FOLDER, given, runtime)
    web.write(root / "notebook", pretrained.FOLDER, given, runtime)
    network = networks.build_model("notebook")
    drawn = synthetic.render(np.arange(70) % 7, seed=0)
    saved_model.write_fixed_batch(network, root / "saved")
    content = tflite.convert(root / "saved", "int8", drawn)
    (root / "notebook/model_int8.tflite").write_bytes(content)
    (root / "modules").symlink_to(Path(_MODULES.value).resolve())
    (root / "faces.bin").write_bytes(images.tobytes())
    (root / "index.html").write_text(PAGE)


def processor_ms(page):
    """Milliseconds that the page's thread has had a processor."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def timed(page, script):
    """The value of a script, and what it took of a processor in ms."""
    before = processor_ms(page)
    value = page.run(script)
    return value, processor_ms(page) - before


def race(browser, address, labels):
    """Prints accuracy and time of every model."""
    rows, spent = {name: [] for name in NAMES}, dict.fromkeys(NAMES, 0.0)
    with browser.open(address) as page:
        page.wait("document.title === 'Race'")
        print("backends and Human's input:", page.run(PREPARE), flush=True)
        page.call("Performance.enable", timeDomain="threadTicks")
        for first in range(0, len(labels), _TURN):
            for name in NAMES:
                last = min(first + _TURN, len(labels))
                found, took = timed(page, f"race('{name}', {first}, {last})")
                rows[name] += found
                spent[name] += took
    print(f"{len(labels)} faces of PublicTest: accuracy, ms by the clock, ms of a processor")
    for key, name in NAMES.items():
        times, best = np.array(rows[key]).T
        right = np.mean(best == labels)
        error = np.sqrt(right * (1 - right) / len(labels))
        clock, processor = np.median(times), spent[key] / len(labels)
        print(f"| {name} | {right:.2%} ±{error:.1%} | {clock:.1f} | {processor:.1f} |")


def frames(browser, address):
    """Prints the time of a whole frame, the pages taking turns."""
    from matplotlib import cbook

    portrait = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    frame = Image.new("RGBA", (640, 480), (96, 120, 144, 255))
    frame.paste(portrait.resize((410, 480)), (115, 0))
    levels = frame.tobytes().hex()
    prepare = f"""import('./page.js').then(m => {{
      const data = Uint8ClampedArray.from('{levels}'.match(/../g), v => parseInt(v, 16));
      const image = {{ data, width: 640, height: 480, channels: 4 }};
      const face = {{ data, width: 48, height: 48, channels: 4 }};
      const time = async (run) => {{
        const started = performance.now();
        await run();
        return performance.now() - started;
      }};
      window.racers = {{ frame: () => time(() => m.find(image, true)),
        face: () => time(() => m.answer(face)) }};
    }})"""
    with browser.open(f"{address}compact/") as one, browser.open(f"{address}notebook/") as other:
        pages = {"compact": one, "notebook": other}
        rows = {(name, what): [] for name in pages for what in ("frame", "face")}
        for page in pages.values():
            page.wait("document.querySelector('#camera').disabled === false")
            page.run(prepare)
            page.call("Performance.enable", timeDomain="threadTicks")
        for turn in range(_FRAMES.value + 5):
            for name, what in rows:
                pages[name].call("Page.bringToFront")
                found = timed(pages[name], f"racers.{what}()")
                if turn >= 5:
                    rows[name, what].append(found)
    print("int8 network, what: ms by the clock, ms of a processor; medians")
    for (name, what), found in rows.items():
        clock, processor = np.median(found, axis=0)
        print(f"| {name}, {what} | {clock:.1f} | {processor:.1f} |", flush=True)


def main(_):
    split = datasets.load(_DATA.value).splits.validation
    chosen = np.linspace(0, len(split.labels) - 1, _COUNT.value).round().astype(int)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_site(root, np.asarray(split.images[:])[chosen])
        handler = functools.partial(_Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as opened:
            threading.Thread(target=opened.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{opened.server_address[1]}/"
            with chromium.Browser() as browser:
                frames(browser, address)
                race(browser, address, split.labels[chosen])
            opened.shutdown()


if __name__ == "__main__":
    app.run(main)
