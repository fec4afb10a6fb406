"""A client's keys, as `edged keys new` writes them, put on its sockets (CURVE)."""

import dataclasses
import stat
import tomllib
from pathlib import Path
from typing import Any, Self

import zmq

__all__ = ["Keys", "KeysError"]

KEY_CHARS = 40


class KeysError(ValueError):
    """A file of keys that cannot be used; names the file, what is wrong and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """Keys in Z85: `public` and `secret` are the client's own, by `server_public` it knows the right daemon."""

    public: str
    secret: str = dataclasses.field(repr=False)
    server_public: str
    name: str = ""
    rights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("public", "secret", "server_public"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != KEY_CHARS or not value.isascii():
                raise KeysError(f"{name}: a key is {KEY_CHARS} characters of Z85; make the file anew: edged keys new")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read NAME.toml. Raises KeysError, also when others than its owner may read or write the file."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                found = tomllib.load(file)
        except (OSError, ValueError) as error:
            raise KeysError(f"{path}: cannot be read as a client's keys: {error}") from error
        if mode & 0o077:
            raise KeysError(f"{path}: mode {mode:04o} lets others at the secret key; chmod 600 {path}")
        try:
            return cls(
                found["public"],
                found["secret"],
                found["server_public"],
                str(found.get("name", "")),
                tuple(found.get("rights", ())),
            )
        except KeyError as error:
            raise KeysError(f"{path}: {error} is missing; make the file anew: edged keys new") from error
        except (KeysError, TypeError) as error:
            raise KeysError(f"{path}: {error}") from error

    def protect(self, socket: "zmq.Socket[Any]") -> None:
        """Put the keys on a socket that has not connected yet."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_public.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())
