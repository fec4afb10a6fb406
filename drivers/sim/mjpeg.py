"""The virtual cell's cameras: an HTTP server of JPEG images (multipart/x-mixed-replace) that OpenCV opens.

One path is one camera. Every part carries Content-Length, so a reader has the image as soon as its last byte
came. The cell paces: `push` hands one image to every reader of a path and never blocks.
"""

import contextlib
import queue
import socket
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["MjpegServer"]

BOUNDARY = "edgedframe"
READER_QUEUE = 300
"""Images a reader may lag behind; then it loses images, as with a real camera."""

WAKE_S = 0.2


class MjpegServer:
    """Serves the cameras `paths` (such as "arc") on loopback, on a port that the system chooses.

    `dropped[path]` counts images that a slow reader lost.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.dropped: Counter[str] = Counter()
        self._readers: dict[str, set[queue.Queue[bytes]]] = {path: set() for path in paths}
        self._sockets: set[socket.socket] = set()
        self._stalled: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(WAKE_S,), name="mjpeg")
        self._thread.start()

    def url(self, path: str) -> str:
        """Where a camera is served."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def readers(self, path: str) -> int:
        """How many readers a camera has at present."""
        with self._lock:
            return len(self._readers[path])

    def push(self, path: str, jpeg: bytes) -> None:
        """Send one image to every reader of `path`; nothing while the camera is stalled."""
        with self._lock:
            if path in self._stalled:
                return
            for reader in self._readers[path]:
                try:
                    reader.put_nowait(jpeg)
                except queue.Full:
                    self.dropped[path] += 1

    def stall(self, path: str, *, is_stalled: bool) -> None:
        """Fault: the camera keeps its connections open and sends nothing."""
        with self._lock:
            (self._stalled.add if is_stalled else self._stalled.discard)(path)

    def close(self) -> None:
        """Hang up on every reader and stop serving."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # the reader was faster and hung up itself
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()  # joins the readers' threads

    def serve(self, path: str, connection: socket.socket) -> None:
        """Send the images of `path` over `connection` until the reader goes or the server closes."""
        images: queue.Queue[bytes] = queue.Queue(READER_QUEUE)
        with self._lock:
            if self._closing.is_set():
                return
            self._readers[path].add(images)
            self._sockets.add(connection)
        try:
            while not self._closing.is_set():
                try:
                    jpeg = images.get(timeout=WAKE_S)
                except queue.Empty:
                    continue
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                connection.sendall(head.encode() + jpeg + b"\r\n")
        except OSError:
            return  # the reader hung up; that is how a reader leaves
        finally:
            with self._lock:
                self._readers[path].discard(images)
                self._sockets.discard(connection)

    def has(self, path: str) -> bool:
        """Whether a camera is served at `path`."""
        return path in self._readers


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    owner: MjpegServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that hangs up during its request is nobody's error; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5.0  # s; a reader that neither asks nor takes is hung up on

    def do_GET(self) -> None:
        path = self.path.strip("/")
        if not self.server.owner.has(path):
            self.send_error(404, f"no camera {path!r}")
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.flush()
        self.server.owner.serve(path, self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """The cell's own output stays free of one line per request."""
