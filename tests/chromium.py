"""Headless Chromium, spoken to over a pipe: no driver, no port, no package.

https://chromedevtools.github.io/devtools-protocol/: JSON with a NUL at the end of every message.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

#: The longest that an answer may take.
_SECONDS = 120


def find():
    """The path of the browser; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class BrowserError(Exception):
    """What a page threw, or what the browser refused."""


class Browser:
    """One browser process; closed at the end of the block.

    Args:
      *flags: of the command line, besides those for tests.
    """

    def __init__(self, *flags):
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        command = [find(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={self._profile}"]
        command += ["--no-first-run", "--disable-extensions", "--disable-dev-shm-usage", *flags]
        # The browser reads from descriptor 3 and writes to 4. (Plain sh knows ten descriptors.)
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self._process.wait(20)
        os.close(self._from)
        os.close(self._to)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        """Asks for something and returns the answer; events that come first are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._to, content) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(answer["error"]["message"])
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], _SECONDS)[0]:
                raise BrowserError(f"no answer in {_SECONDS} s")
            part = os.read(self._from, 2**20)
            if not part:
                raise BrowserError("the browser ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, address, **options):
        """Opens a page in a tab of its own."""
        return Page(self, address, **options)


class Page:
    """A tab; closed at the end of the block.

    Args:
      browser: it is in.
      address: what it opens.
      width, height: of its window in pixels.
      dark: whether the visitor likes it dark.
      scale: device pixels a pixel.
    """

    def __init__(self, browser, address, *, width=1200, height=900, dark=False, scale=1):
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "DOM", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.look_like(width=width, height=height, dark=dark, scale=scale)
        self.call("Page.navigate", url=address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def look_like(self, *, width, height=900, dark=False, scale=1, forced=False):
        """Has the window another size and theme, or colours that the system forces upon it."""
        size = {"width": width, "height": height, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=scale, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        colours = {"name": "forced-colors", "value": "active" if forced else "none"}
        # What moves is seen where it ends.
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, colours, motion])

    def run(self, script):
        """The value of an expression, or of what its promise gives."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def wait(self, condition, seconds=30):
        """Polls an expression until it is true, and returns its value."""
        end = time.monotonic() + seconds
        # In the page: it looks at every frame, and no time is slept away here.
        script = f"""new Promise(resolve => {{
          const look = () => {{
            let value = null;
            try {{ value = {condition}; }} catch (error) {{ value = null; }}
            if (value || performance.now() > limit) resolve(value); else setTimeout(look, 10);
          }}, limit = performance.now() + {1000 * seconds};
          look();
        }})"""
        while time.monotonic() < end:
            with contextlib.suppress(BrowserError):  # The page is being loaded.
                if value := self.run(script):
                    return value
        said = self.run("document.body.innerText")
        raise AssertionError(f"never true: {condition}; the page says {said!r}")

    def choose(self, selector, *paths):
        """Puts files into a file input, as a visitor does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def drag(self, start, end):
        """Moves the mouse with its button down, in pixels of the window."""
        for kind, (x, y) in (("Pressed", start), ("Moved", end), ("Released", end)):
            self.call(
                "Input.dispatchMouseEvent",
                type=f"mouse{kind}",
                x=x,
                y=y,
                button="left",
                buttons=int(kind != "Released"),
                clickCount=1,
            )

    def screenshot(self, path, *, whole=False):
        options = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "scale": 1} | {
                name: size[name] for name in ("width", "height")
            }
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **options)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def events(self, method):
        """The parameters of this tab's events of a kind so far."""
        self.run("0")  # Whatever has happened has been told then.
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    def forget_problems(self):
        """Has ``problems`` start afresh."""
        self.run("0")
        self._browser.events.clear()

    def problems(self):
        """Uncaught errors, and what the content security policy forbade."""
        thrown = [one["exceptionDetails"] for one in self.events("Runtime.exceptionThrown")]
        logged = [one["entry"] for one in self.events("Log.entryAdded")]
        found = [one.get("exception", {}).get("description", one["text"]) for one in thrown]
        return found + [one["text"] for one in logged if one["level"] == "error"]
