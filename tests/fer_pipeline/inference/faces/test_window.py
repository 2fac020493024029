"""A window shows pictures until it is closed; without a display there is none."""

import sys
import types

import numpy as np
import pytest

from fer_pipeline.inference.faces import window


@pytest.fixture
def tk(monkeypatch):
    """Tk without a display: remembers what is shown, and what ends it."""
    shown, ends = [], {}

    class Root:
        def __init__(self, **_):
            self.closed = False

        title = geometry = lambda self, _: None

        def protocol(self, name, call):
            ends[name] = call

        bind = protocol

        def update(self):
            assert not self.closed

        def destroy(self):
            self.closed = True

    class Label:
        def __init__(self, root, borderwidth):
            pass

        def pack(self):
            pass

        def configure(self, image):
            shown.append(image)

    module = types.SimpleNamespace(Tk=Root, Label=Label)
    images = types.SimpleNamespace(PhotoImage=lambda image, master: np.asarray(image))
    monkeypatch.setitem(sys.modules, "tkinter", module)
    monkeypatch.setitem(sys.modules, "PIL.ImageTk", images)
    monkeypatch.setenv("DISPLAY", ":0")
    return shown, ends


@pytest.mark.parametrize("end", ["WM_DELETE_WINDOW", "q", "<Escape>"])
def test_it_shows_until_it_is_closed(tk, end):
    shown, ends = tk
    show = window.open_window("faces")
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert show(picture)
    np.testing.assert_array_equal(shown[0], picture)
    ends[end]()
    assert not show(picture)
    assert not show(picture)


def test_there_is_none_without_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert window.open_window("faces") is None
    # A display whose server is not there.
    monkeypatch.setenv("DISPLAY", "127.0.0.1:97")
    assert window.open_window("faces") is None
