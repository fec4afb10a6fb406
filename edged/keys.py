"""The cell's keys on disk: who we are (`server.toml`), and who may talk to us (`clients.toml`).

Keys are CURVE25519 pairs (ZeroMQ's CURVE, RFC 26), written as Z85 text (RFC 32). A client's secret leaves in its own
file and is not kept here. `edged.guard` reads the list in the running daemon, `edged keys` writes it.
Files are replaced whole, so a reader never sees half a list.
"""

import contextlib
import datetime
import fcntl
import os
import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tomli_w
import zmq
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = [
    "RIGHTS",
    "Bundle",
    "ClientKey",
    "KeyStore",
    "KeysError",
    "Right",
    "ServerKeys",
    "write_private",
]

Right = Literal["verdict", "control"]
RIGHTS: tuple[Right, ...] = get_args(Right)

SERVER_FILE = "server.toml"
CLIENTS_FILE = "clients.toml"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Z85_KEY = r"^[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$"
MAX_FILE_BYTES = 1024 * 1024
OPEN_TO_OTHERS = 0o077
WRITABLE_BY_OTHERS = 0o022

Name = Annotated[str, Field(pattern=NAME)]
Key = Annotated[str, Field(pattern=Z85_KEY)]


class KeysError(Exception):
    """Keys are missing, open to others or not readable; names the file and what to do."""


class _Missing(KeysError):
    """There is no such file."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerKeys(_Form):
    """The daemon's own pair."""

    public: Key
    secret: Key


class ClientKey(_Form):
    """One line of the list: a client, what it may do, and until when."""

    name: Name
    public: Key
    rights: Annotated[tuple[Right, ...], Field(min_length=1)]
    created_utc: AwareDatetime
    revoked_utc: AwareDatetime | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it was not revoked."""
        return self.revoked_utc is None


class Bundle(_Form):
    """What an integrator carries to the client: its pair, and the key by which it knows this daemon."""

    name: Name
    rights: tuple[Right, ...]
    public: Key
    secret: Key
    server_public: Key


class _List(_Form):
    client: tuple[ClientKey, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> "_List":
        keys = [item.public for item in self.client]
        names = [item.name for item in self.client if item.is_valid]
        for what, found in (("key", keys), ("name", names)):
            if twice := [item for item in dict.fromkeys(found) if found.count(item) > 1]:
                raise ValueError(f"{what} {twice[0]} is listed twice")
        return self


F = TypeVar("F", bound=_Form)


class KeyStore:
    """The folder of keys, mode 0700. Nothing is read before it is asked for.

    Every method raises KeysError for files that are missing, wrong, or open to other users.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_path = folder / SERVER_FILE
        self.clients_path = folder / CLIENTS_FILE

    def server(self) -> ServerKeys:
        """The daemon's own pair."""
        return _read(self.server_path, ServerKeys, OPEN_TO_OTHERS)

    def clients(self) -> tuple[ClientKey, ...]:
        """Everybody who ever got a key, in order; none where there is no list yet."""
        try:
            return _read(self.clients_path, _List, WRITABLE_BY_OTHERS).client
        except _Missing:
            return ()

    def problems(self) -> list[str]:
        """What keeps a daemon from using these keys; empty: nothing."""
        found = []
        for ask in (self._check_folder, self.server, self.clients):
            try:
                ask()
            except KeysError as error:
                found.append(str(error))
        return found

    def make_server(self) -> ServerKeys:
        """The daemon's pair, made now where there is none."""
        with self._locked():
            return self._server_or_new()

    def add(self, name: str, rights: Sequence[Right], now: datetime.datetime) -> Bundle:
        """List a new client. The secret is in the answer only."""
        with self._locked():
            server = self._server_or_new()
            before = self.clients()
            if any(item.name == name and item.is_valid for item in before):
                raise KeysError(f"{name} has a key already: revoke it first, or take another name")
            public, secret = (half.decode() for half in zmq.curve_keypair())
            try:
                ordered = tuple(right for right in RIGHTS if right in rights)
                added = ClientKey(name=name, public=public, rights=ordered, created_utc=now)
            except ValidationError as error:
                raise KeysError(f"{name!r:.100}: {_first(error)}; use letters, digits, '.', '_' and '-'") from error
            self._write_clients((*before, added))
        return Bundle(name=name, rights=ordered, public=public, secret=secret, server_public=server.public)

    def revoke(self, name: str, now: datetime.datetime) -> ClientKey:
        """Shut a client out; its line stays, so that the log can name it when it comes back."""
        with self._locked():
            before = self.clients()
            valid = [item for item in before if item.name == name and item.is_valid]
            if not valid:
                known = ", ".join(item.name for item in before if item.is_valid) or "nobody"
                raise KeysError(f"{name}: no such client with a valid key; there is {known}")
            revoked = valid[0].model_copy(update={"revoked_utc": now})
            self._write_clients(tuple(revoked if item is valid[0] else item for item in before))
        return revoked

    def _server_or_new(self) -> ServerKeys:
        try:
            return self.server()
        except _Missing:
            public, secret = (half.decode() for half in zmq.curve_keypair())
            self._write(self.server_path, ServerKeys(public=public, secret=secret).model_dump())
        return self.server()

    def _write_clients(self, clients: Sequence[ClientKey]) -> None:
        self._write(self.clients_path, {"client": [item.model_dump(exclude_none=True) for item in clients]})

    def _check_folder(self) -> None:
        try:
            found = self.folder.stat()
        except OSError as error:
            raise KeysError(f"{self.folder}: {error.strerror}; 'edged keys new NAME' makes it") from error
        if found.st_mode & OPEN_TO_OTHERS:
            raise KeysError(f"{self.folder}: mode {_mode(found)}, others may look in; chmod 0700 {self.folder}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time. The folder is made where there is none."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise KeysError(f"{self.folder}: {error.strerror}; run as root or as the user edged") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            write_private(path, content, owner_of=self.folder)
        except OSError as error:
            raise KeysError(f"{path}: {error.strerror}; run as root or as the user edged") from error


def write_private(path: Path, content: dict[str, Any], owner_of: Path | None = None) -> None:
    """Replace a file at once by TOML of mode 0600; as root, it gets the owner of `owner_of`. Raises OSError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if owner_of is not None and os.geteuid() == 0:
                folder = owner_of.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            tomli_w.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    folder_handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)


def _read(path: Path, form: type[F], forbidden_mode: int) -> F:
    """The file's content, if nobody else can have changed (or, for secrets, seen) it."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            # Asked of the open file: the name may be another file by the time it is read.
            found = os.fstat(file.fileno())
            _check(path, found, forbidden_mode)
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise _Missing(f"{path}: there is no such file; 'edged keys new NAME' makes it") from error
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; it must be readable for the user edged") from error
    if len(text) > MAX_FILE_BYTES:
        raise KeysError(f"{path}: more than {MAX_FILE_BYTES} bytes are no list of keys")
    try:
        return form.model_validate(tomllib.loads(text.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise KeysError(f"{path}: {_first(error)}") from error


def _check(path: Path, found: os.stat_result, forbidden_mode: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeysError(f"{path}: is no file")
    if found.st_mode & forbidden_mode:
        may = "read" if forbidden_mode == OPEN_TO_OTHERS else "change"
        raise KeysError(f"{path}: mode {_mode(found)}, others may {may} it; chmod 0600 {path}")
    if os.geteuid() not in (0, found.st_uid) and found.st_uid != 0:
        raise KeysError(f"{path}: belongs to user {found.st_uid}, not to us ({os.geteuid()}); chown it")


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _first(error: ValidationError) -> str:
    """What is wrong, without the value: it may be a secret."""
    item = error.errors()[0]
    return f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
