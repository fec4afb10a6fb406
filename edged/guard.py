"""The guard: lets only listed keys reach the daemon's sockets, and says who was refused.

ZeroMQ asks a ZAP handler (RFC 27) for every CURVE handshake. Ours is pyzmq's `Authenticator`, served in the daemon's
own turn (docs/adr/0018-zap-in-the-daemons-turn.md); it knows each key's name and rights from `edged.keys`. The list
is read again when its file changes: new keys count at once. CURVE has no way to end a connection, so for a
key that was revoked the sockets are made anew: `reloaded` says which.
"""

import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
import zmq
import zmq.auth
from zmq.utils import z85

from edged.handshakes import Handshakes
from edged.keys import RIGHTS, ClientKey, KeysError, KeyStore, Right, ServerKeys
from edged.refusals import Refusal, Refusals

__all__ = ["Guard"]

LOOK_EVERY_NS = 200_000_000
HANDSHAKE_MS = 3_000
"""ZeroMQ leaves a client with an unknown key waiting until then, after which it tries again."""
REQUESTS_PER_TURN = 64
"""Each takes some 20 µs; handshakes above this wait for the next turn."""

Stamp = tuple[int, int, int] | None

log = structlog.get_logger(__name__)


class Guard:
    """One ZAP handler for all protected sockets of a context. Not thread-safe.

    Args:
        context: that of the sockets; it must have no other ZAP handler, and one I/O thread.
        folder: of the keys, see `edged.keys`.
        now_ns: a monotonic clock.
    Raises KeysError when the keys cannot be used.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        folder: Path,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._store, self._now_ns = KeyStore(folder), now_ns
        if problems := self._store.problems():
            raise KeysError("; ".join(problems))
        self._server: ServerKeys = self._store.server()
        self._stamp = self._stamp_now()
        self._clients: dict[bytes, ClientKey] = _by_key(self._store.clients())
        self._next_look_ns = now_ns() + LOOK_EVERY_NS
        self._refusals = Refusals(now_ns)
        self._watched: dict[zmq.Socket[bytes], Handshakes] = {}
        self._reloaded: set[Right] = set()
        self._problem: str | None = None
        self._zap = _Zap(context, self._find, self._refusals)
        self._zap.start()

    def protect(self, socket: "zmq.Socket[bytes]", domain: str) -> None:
        """Let only keys with the right `domain` reach a socket that is yet to be bound. Raises ValueError."""
        if domain not in RIGHTS:
            raise ValueError(f"{domain!r} is no right; there are {', '.join(RIGHTS)}")
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._server.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._server.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._watched[socket] = Handshakes(socket, domain)

    def release(self, socket: "zmq.Socket[bytes]") -> None:
        """Forget a socket; before it is closed."""
        if (watch := self._watched.pop(socket, None)) is not None:
            watch.close()

    def sockets(self) -> list["zmq.Socket[bytes]"]:
        """To be polled; readable means `serve`."""
        return [self._zap.zap_socket, *(watch.socket for watch in self._watched.values())]

    def serve(self) -> None:
        """Decide about handshakes that wait, note failed ones, look after the list of keys; never blocks."""
        if (now_ns := self._now_ns()) >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_EVERY_NS
            self._look()
        self._zap.serve()
        for watch in self._watched.values():
            for refusal in watch.failed():
                self._refusals.note(refusal)

    def reloaded(self) -> frozenset[Right]:
        """Rights that somebody has lost since the last call: sockets of these domains must be made anew."""
        found = frozenset(self._reloaded)
        self._reloaded.clear()
        return found

    def counters(self) -> dict[str, int]:
        """How many were refused, by reason, since the start."""
        return self._refusals.counters()

    def warnings(self) -> list[str]:
        """What is wrong with the keys by now; the list of before goes on."""
        return [] if self._problem is None else [f"keys: {self._problem}; the keys of before go on"]

    def close(self) -> None:
        """Decide no more; when the protected sockets are closed."""
        for watch in self._watched.values():
            watch.close()
        self._watched.clear()
        self._zap.stop()

    def _find(self, key: bytes) -> ClientKey | None:
        """The client of a public key (Z85); a list that has just got longer is looked at first."""
        if key not in self._clients:
            self._look()
        return self._clients.get(key)

    def _stamp_now(self) -> tuple[Stamp, Stamp]:
        return _stamp(self._store.server_path), _stamp(self._store.clients_path)

    def _look(self) -> None:
        """Read the keys again if their files have changed; a list that cannot be read changes nothing."""
        if (stamp := self._stamp_now()) == self._stamp:
            return
        self._stamp = stamp
        try:
            server = self._store.server()
            # A list that has gone is no empty list: `edged keys revoke` never removes it.
            if stamp[1] is None and self._clients:
                raise KeysError(
                    f"{self._store.clients_path}: is gone; put it back, or revoke with 'edged keys revoke'"
                )
            clients = _by_key(self._store.clients())
        except KeysError as error:
            self._problem = str(error)
            log.error("keys not read again", error=self._problem)
            return
        self._problem = None
        lost = {right for key, client in self._clients.items() for right in _lost(client, clients.get(key))}
        if server != self._server:
            lost = set(RIGHTS)
        self._reloaded |= lost
        self._server, self._clients = server, clients
        log.info("keys read again", valid=sum(client.is_valid for client in clients.values()), lost=sorted(lost))


class _Zap(zmq.auth.Authenticator):
    """pyzmq's handler without a thread or a loop: nothing in it waits, so its coroutines run to their end at once."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        find: Callable[[bytes], ClientKey | None],
        refusals: Refusals,
    ) -> None:
        super().__init__(context)
        self._find, self._refusals = find, refusals
        self._address = "unknown"
        self._may_come_again = False
        for right in RIGHTS:
            self.configure_curve_callback(right, self)

    def serve(self) -> None:
        """Answer the requests that wait."""
        for _ in range(REQUESTS_PER_TURN):
            if not self.zap_socket.poll(0):
                return
            request = self.zap_socket.recv_multipart(zmq.NOBLOCK)
            self._address = request[3].decode(errors="replace") if len(request) > 3 else "unknown"
            self._may_come_again = False
            _finish(self.handle_zap_message(request))

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a key (Z85) may use the sockets of a domain; pyzmq asks."""
        client = self._find(key)
        if client is None:
            reason, detail = "unknown_key", "its key is not listed"
        elif not client.is_valid:
            reason, detail = "revoked", f"its key was revoked {client.revoked_utc:%Y-%m-%d %H:%M} UTC"
        elif domain not in client.rights:
            reason, detail = "lacks_right", f"its key has the right {', '.join(client.rights)}, not {domain}"
        else:
            return True
        self._may_come_again = client is None
        name = None if client is None else client.name
        address = self._address
        self._refusals.note(Refusal(reason, domain, address, detail, name=name, key=key.decode()))
        return False

    def _send_zap_reply(
        self, request_id: bytes, status_code: bytes, status_text: bytes, user_id: str = "anonymous"
    ) -> None:
        # ZeroMQ's clients give up for good on 400; on 300 they try again, and find a key that was listed since.
        code = b"300" if status_code == b"400" and self._may_come_again else status_code
        super()._send_zap_reply(request_id, code, status_text, user_id)

    def curve_user_id(self, client_public_key: bytes) -> str:
        """The name of the key, which messages then carry as User-Id."""
        client = self._find(z85.encode(client_public_key))
        return "" if client is None else client.name


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one that never waits. Raises RuntimeError if it does."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("pyzmq's Authenticator waits for something; it must answer at once")


def _by_key(clients: tuple[ClientKey, ...]) -> dict[bytes, ClientKey]:
    return {client.public.encode(): client for client in clients}


def _lost(before: ClientKey, now: ClientKey | None) -> set[Right]:
    """Rights that a key had and has no more."""
    had = set(before.rights) if before.is_valid else set()
    return had - (set(now.rights) if now is not None and now.is_valid else set())


def _stamp(path: Path) -> Stamp:
    """Differs when the file was replaced or changed; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)
