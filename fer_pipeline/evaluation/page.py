"""Pages that show themselves: style and pictures are inside, and there is no script."""

from __future__ import annotations

import base64
import functools
import importlib.resources
import io

import numpy as np

from fer_pipeline.evaluation.markup import Markup, element


def document(title: str, body: Markup, *, generator: str) -> str:
    """A page as HTML, in the looks of ``report.css``.

    Args:
      title: of the browser's window.
      body: the element of that name.
      generator: by which a page of this software is known from another file.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=generator),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # Ours, so it needs no escaping, which inside of this element would not be undone.
        element("style", Markup(_style())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


@functools.cache
def _style() -> str:
    return importlib.resources.files(__package__).joinpath("report.css").read_text("utf-8")


def picture(image: np.ndarray) -> str:
    """A grey image uint8 ``[H, W, 1]`` as a ``data:`` address."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image[..., 0]).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
