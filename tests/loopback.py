"""A web server on this machine that does to a download what servers and connections do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What lies under one path, and how it is answered.

    drop_after: for each request in turn the bytes after which the connection ends; then none.
    statuses: for each request in turn an error instead of the file; then none.
    ranges: how a request for a part is answered: "honour", "careless" (without a look at If-Range), "ignore" (all of
        it), "wrong" (another part), "refuse".
    """

    body: bytes = b""
    etag: str = '"one"'
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirect: str = ""
    ranges: str = "honour"
    says_length: bool = True


class Server:
    """`files`: what is served, by path. `requests`: (path, Range header) of what was asked; `headers`: all of them."""

    def __init__(self, port: int) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.port = port

    def put(self, path: str, body: bytes = b"", **answer: object) -> str:
        """Serve a file; returns its address."""
        self.files[path] = Served(body, **answer)  # type: ignore[arg-type]
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def serving() -> Iterator[Server]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server = Server(httpd.server_address[1])
    httpd.RequestHandlerClass = _handler(server)
    thread = threading.Thread(target=lambda: httpd.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(server: Server) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            server.headers.append(dict(self.headers))
            file = server.files.get(self.path.partition("?")[0])
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if file is None:
                self.send_error(404)
            elif file.statuses:
                self.send_error(file.statuses.pop(0))
            elif file.redirect:
                self._head(302, {"Location": file.redirect})
            elif asked and file.ranges == "refuse":
                self.send_error(416)
            elif asked and file.ranges == "wrong":
                self._send(file, 206, 0)
            elif asked and (
                file.ranges == "careless"
                or (file.ranges == "honour" and self.headers.get("If-Range") in (None, file.etag))
            ):
                if begin >= len(file.body):
                    self._head(416, {"Content-Range": f"bytes */{len(file.body)}"})
                else:
                    self._send(file, 206, begin)
            else:
                self._send(file, 200, 0)

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, file: Served, status: int, begin: int) -> None:
            body = file.body[begin:]
            headers = {"Content-Type": file.content_type, **file.headers}
            if status == 206:
                headers["Content-Range"] = f"bytes {begin}-{len(file.body) - 1}/{len(file.body)}"
            if file.etag:
                headers["ETag"] = file.etag
            if file.says_length:
                headers["Content-Length"] = str(len(body))
            self._head(status, headers)
            self.wfile.write(body[: file.drop_after.pop(0)] if file.drop_after else body)

    return Handler
