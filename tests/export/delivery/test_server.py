"""The server of a page: files of its folder with their types, and nothing else."""

import http.client
import socket
import struct
import threading

import pytest

from export.delivery import server
from fer_pipeline.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    (root / "secret.txt").write_text("secret")
    page = root / "page"
    (page / "litert").mkdir(parents=True)
    (page / "index.html").write_text("<p>page</p>")
    (page / "page.js").write_text("1")
    (page / "model.tflite").write_bytes(b"\0")
    (page / "litert/x.wasm").write_bytes(b"\0asm")
    (page / "out.txt").symlink_to("../secret.txt")
    (page / "outside").symlink_to("..")
    (page / "in.js").symlink_to("page.js")
    (page / "loop").symlink_to("loop")
    (page / "closed.js").write_text("secret")
    return page


@pytest.fixture(scope="module")
def ask(folder):
    def opened_by_others(path, *arguments):
        if str(path).endswith("closed.js"):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments)

    # Permissions hold back everybody but an administrator, who may run this.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "open", opened_by_others, raising=False)
        yield from _asking(folder)


def _asking(folder):
    with server.open_server(folder, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()

        def ask(target, method="GET"):
            connection = http.client.HTTPConnection(*opened.server_address)
            connection.request(method, target)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer, content

        yield ask
        opened.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("target", "kind", "content"),
    [
        ("/", "text/html; charset=utf-8", b"<p>page</p>"),
        ("/index.html?x=1", "text/html; charset=utf-8", b"<p>page</p>"),
        ("/page.js", "text/javascript; charset=utf-8", b"1"),
        ("/in.js", "text/javascript; charset=utf-8", b"1"),
        ("/litert/x.wasm", "application/wasm", b"\0asm"),
        ("/model.tflite", "application/octet-stream", b"\0"),
    ],
)
def test_files_come_with_their_types(ask, target, kind, content):
    answer, found = ask(target)
    assert (answer.status, answer.getheader("Content-Type"), found) == (200, kind, content)
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    policy = answer.getheader("Content-Security-Policy")
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    answer, found = ask(target, "HEAD")
    assert (answer.status, found) == (200, b"")
    assert answer.getheader("Content-Length") == str(len(content))


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/litert/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/out.txt",
        "/outside/secret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/page.js%00.html",
        "/litert/",
        "/loop",
        "/nothing",
        "/closed.js",
        "/" + 300 * "x",
    ],
)
def test_nothing_else_is_served(ask, target):
    answer, content = ask(target)
    assert answer.status == 404
    assert b"secret" not in content.replace(b"secret.txt", b"")
    assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_whatever_a_client_does_no_traceback_is_shown(folder, capfd):
    with server.open_server(folder, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        # With its reset pending, nothing more can be sent or read.
        with socket.create_connection(opened.server_address) as gone:
            gone.sendall(b"GET /index.html HTTP/1.1\r\n\r\n")
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(opened.server_address) as strange:
            strange.sendall(b"GET http://[ HTTP/1.0\r\n\r\n")
            assert strange.makefile("rb").readline().split()[1] == b"404"
        opened.shutdown()
        thread.join()
    for error in (ConnectionResetError(), BrokenPipeError()):
        try:
            raise error
        except ConnectionError:
            opened.handle_error(None, ("127.0.0.1", 1))
    assert "Traceback" not in capfd.readouterr().err


def test_only_reading_is_allowed(ask):
    assert ask("/page.js", "POST")[0].status == 501


def test_a_run_or_an_export_is_taken_for_its_page(folder, tmp_path):
    assert server.find_page(folder) == folder
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    (run / "export/web").symlink_to(folder)
    assert server.find_page(run) == server.find_page(run / "export") == run / "export/web"
    assert server.find_page(tmp_path) == tmp_path


def test_what_the_system_cannot_name_is_not_found(folder):
    # Of an address such as /%E2%82%AC, where the file system's encoding is ASCII.
    assert server.find_file(folder, "/\ud800") is None


def test_a_folder_without_a_page_or_a_port_in_use_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"holds no page \(index.html\)"):
        server.open_server(tmp_path, 0)
    with server.open_server(folder, 0) as opened:
        port = opened.server_address[1]
        assert opened.server_address[0] == "127.0.0.1"
        with pytest.raises(UserError, match=f"--port={port}: .*name another one"):
            server.open_server(folder, port)
    with pytest.raises(UserError, match="--port=70000: "):
        server.open_server(folder, 70000)
