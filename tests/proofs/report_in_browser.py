"""Opens reports in headless Chromium: page errors, figures that are not seen, pages too wide.

    python tests/proofs/report_in_browser.py runs/ONE runs/OTHER [--screenshots=FOLDER]

Writes the report of each run, and of all side by side, and opens them at the widths of a phone and
of a desk, light and dark. A script that is added to a copy measures what the browser made of it;
the report itself has none. Needs ``chromium``.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from fer_pipeline.evaluation import report

WIDTHS = (390, 1280)

#: Finds what should be seen and is not: too small, outside of the page, or its text cut. The frame
#: has the width of a phone, which a window of Chromium cannot have.
PROBE = """
<script>
window.problems = [];
addEventListener("error", event => problems.push("error: " + event.message));
addEventListener("load", () => {
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth)
    problems.push(`the page is ${page.scrollWidth} wide in ${page.clientWidth}`);
  const seen = {};
  for (const node of document.querySelectorAll("figure, table, svg.chart, img, pre, dl, ul")) {
    const box = node.getBoundingClientRect(), what = node.className.baseVal ?? node.className;
    const name = `${node.tagName.toLowerCase()} ${what}`.trim();
    if (node.closest("details:not([open])") || node.closest("[hidden]")) continue;
    seen[name] = (seen[name] ?? 0) + 1;
    if (box.width < 24 || box.height < 8) problems.push(`${name} is ${box.width}x${box.height}`);
    const scrolled = node.closest(".scroll") !== null;
    if (!scrolled && (box.left < -1 || box.right > page.clientWidth + 1))
      problems.push(`${name} reaches from ${box.left} to ${box.right}`);
    if (node.tagName == "IMG" && !node.naturalWidth) problems.push(`${name} has no picture`);
  }
  for (const text of document.querySelectorAll("svg.chart > g:not(.point) text")) {
    const size = text.getBoundingClientRect().height;
    if (size < 9) problems.push(`"${text.textContent}" is ${size} high`);
  }
  for (const point of document.querySelectorAll(".point")) {
    point.focus();
    if (document.activeElement !== point) problems.push("a point cannot be focused");
    if (getComputedStyle(point.querySelector(".tip")).visibility != "visible")
      problems.push(`nothing is shown at ${point.getAttribute("aria-label")}`);
    const [box, tip] = [point.closest("svg"), point.querySelector(".tip")].map(
      node => node.getBoundingClientRect());
    if (tip.right > box.right + 1 || tip.left < box.left - 1 || tip.bottom > box.bottom + 1)
      problems.push(`its text leaves the chart at ${point.getAttribute("aria-label")}`);
  }
  document.activeElement?.blur();
  const found = { problems, seen, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper: getComputedStyle(document.body).backgroundColor };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""

FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><body style="margin:0">
<iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe><pre id="found"></pre>
<script>addEventListener("message", e => document.querySelector("#found").textContent = e.data)
</script>"""


def chromium(url, *arguments, dark=False):
    """What Chromium prints; an error if it does not end well."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1400,1000", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=4000", "--enable-logging=stderr"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    result = subprocess.run(
        [*command, *arguments, url], capture_output=True, text=True, timeout=120, check=True
    )
    errors = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return result.stdout, errors


def look(page, width, *, dark, folder):
    """What the probe found on a page at a width."""
    probed = folder / "probed.html"
    text = page.read_text("utf-8")
    probed.write_text(text.replace("<title>", PROBE + "<title>", 1), "utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=probed.name, width=width), "utf-8")
    shown, errors = chromium(frame.as_uri(), "--dump-dom", dark=dark)
    found = re.search(r'<pre id="found">(.+?)</pre>', shown, re.DOTALL)
    assert found, f"{page}: the page did not load; {errors}"
    result = json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
    assert result["dark"] == dark
    result["problems"] += errors
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--screenshots", type=Path)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = [report.write([run], folder / f"{i}.html") for i, run in enumerate(arguments.runs)]
        if len(arguments.runs) > 1:
            pages.append(report.write(arguments.runs, folder / "all.html"))
        for page in pages:
            for width in WIDTHS:
                for dark in (False, True):
                    found = look(page, width, dark=dark, folder=folder)
                    shown = sum(found["seen"].values())
                    print(
                        f"{page.name} {width} {'dark' if dark else 'light'}: {shown} figures, "
                        f"paper {found['paper']}, {len(found['problems'])} problems"
                    )
                    for problem in found["problems"]:
                        print(f"  {problem}")
                    failed += len(found["problems"])
                    if arguments.screenshots:
                        arguments.screenshots.mkdir(parents=True, exist_ok=True)
                        look_at = f"{page.stem}-{width}-{'dark' if dark else 'light'}.png"
                        target = (arguments.screenshots / look_at).resolve()
                        size = f"--window-size={max(width, 500)},6000"
                        chromium(page.as_uri(), size, f"--screenshot={target}", dark=dark)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
