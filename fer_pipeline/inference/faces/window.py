"""A window that shows pictures one after the other, where there is a display."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

#: Shows a picture, uint8 RGB ``[H, W, 3]``; False once the user has closed the window.
Show = Callable[[np.ndarray], bool]


def open_window(title: str) -> Show | None:
    """Opens a window; ``q``, Escape or its button closes it.

    Returns:
      The function that shows a picture; None where there is no display or no Tk.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    try:
        import tkinter

        root = tkinter.Tk(className=title)
    # Without its shared library tkinter is an ImportError, without the display's server a TclError.
    except Exception:
        return None
    from PIL import Image, ImageTk

    panel = tkinter.Label(root, borderwidth=0)
    panel.pack()
    is_open = True

    def close(_: object = None) -> None:
        nonlocal is_open
        is_open = False

    root.title(title)
    root.protocol("WM_DELETE_WINDOW", close)
    for key in ("q", "<Escape>"):
        root.bind(key, close)

    def show(pixels: np.ndarray) -> bool:
        if not is_open:
            return False
        picture = ImageTk.PhotoImage(Image.fromarray(pixels), master=root)
        panel.configure(image=picture)
        panel.image = picture  # Tk keeps no reference of its own.
        root.update()
        if not is_open:
            root.destroy()
        return is_open

    return show
