"""Serves the folder of a web page to this computer alone."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from export.formats import web
from fer_pipeline import run_dir
from fer_pipeline.errors import UserError

#: The loopback address: no other computer reaches it.
HOST = "127.0.0.1"

#: Browsers want the type of modules and of WebAssembly, and guess none (``nosniff``).
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".wasm": "application/wasm",
    "": "text/plain; charset=utf-8",
}
_OTHER = "application/octet-stream"

_INDEX = "index.html"

#: The policy is in the page too; a header alone can say who may frame it.
HEADERS = {
    "Content-Security-Policy": f"{web.POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def find_page(folder: Path) -> Path:
    """The page in a run or an export; without one, the folder itself."""
    places = (folder, folder / web.NAME, folder / run_dir.EXPORT / web.NAME)
    return next((place for place in places if (place / _INDEX).is_file()), folder)


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Opens a server of a folder; ``serve_forever`` runs it.

    Args:
      folder: holds ``index.html``.
      port: 0 for any that is free.

    Raises:
      UserError: there is no page, or the port cannot be used.
    """
    folder = folder.resolve()
    if not (folder / _INDEX).is_file():
        raise UserError(
            f"{folder}: holds no page ({_INDEX}); python -m export --run_dir=RUN --formats=web "
            "makes one"
        )
    try:
        return _Server((HOST, port), partial(_Handler, folder))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--port={port}: {reason}; name another one, or 0 for any") from error


def find_file(folder: Path, target: str) -> Path | None:
    """The file that a request asks for; None if there is none inside the folder.

    Args:
      folder: resolved.
      target: of the request line, such as ``/page.js?x``.
    """
    try:
        parts = [unquote(part) for part in urlsplit(target).path.split("/")[1:]]
    except ValueError:  # An address of another kind, such as http://[.
        return None
    if any(part in (".", "..") or set(part) & set("/\\\0") for part in parts):
        return None
    try:
        # Links are followed, and must not lead out.
        path = folder.joinpath(*parts).resolve()
        if path.is_dir():
            path = (path / _INDEX).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    # A name that is too long or has letters that the system lacks, a link to itself.
    except (OSError, RuntimeError, ValueError):
        return None


class _Server(ThreadingHTTPServer):
    """Says nothing of browsers that go away before they have everything."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with files of one folder."""

    def __init__(self, folder: Path, *arguments: Any) -> None:
        self._folder = folder
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        path = find_file(self._folder, self.path)
        try:
            file = open(path, "rb") if path else None  # noqa: SIM115
        except OSError:  # Replaced this moment, or another user's.
            file = None
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _TYPES.get(path.suffix, _OTHER))
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            if with_content:
                shutil.copyfileobj(file, self.wfile)

    def end_headers(self) -> None:
        """Every answer has them, errors too."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Keeps the terminal for the address."""
