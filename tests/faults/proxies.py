"""What stands between a worker and its parts: a TCP proxy that can be cut, and one that answers HTTP badly."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Literal

Mode = Literal["through", "cut", "500", "429", "hang", "half"]

_ANSWERS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsick",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwait",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nhal",
}


class Proxy:
    """Passes bytes between `port` and `target` on 127.0.0.1; `mode` says what else to do with connections.

    cut: existing ones are dropped, new ones too. hang: nothing is ever answered. half: the answer ends in its middle.
    """

    def __init__(self, *, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.mode: Mode = "through"
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._pairs: set[socket.socket] = set()
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: Mode) -> None:
        """Change what happens to connections; those that are open are dropped."""
        self.mode = mode
        with self._lock:
            for one in self._pairs:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No more."""
        self._over.set()
        self.set("cut")
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.mode == "through":
                with socket.create_connection(("127.0.0.1", self.target), timeout=10) as server:
                    self._pump(client, server)
            elif self.mode == "hang":
                while self.mode == "hang" and not self._over.is_set():
                    time.sleep(0.1)
            elif self.mode in _ANSWERS:
                client.settimeout(2.0)
                client.recv(65_536)
                client.sendall(_ANSWERS[self.mode])

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        both = {client: server, server: client}
        with self._lock:
            self._pairs |= both.keys()
        try:
            with selectors.DefaultSelector() as ready:
                for one in both:
                    ready.register(one, selectors.EVENT_READ)
                while self.mode == "through":
                    for key, _ in ready.select(0.5):
                        one = key.fileobj
                        assert isinstance(one, socket.socket)
                        said = one.recv(262_144)
                        if not said:
                            return
                        both[one].sendall(said)
        finally:
            with self._lock:
                self._pairs -= both.keys()
