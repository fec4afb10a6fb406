"""Which sockets need keys: every one that other machines reach, unless the configuration says otherwise in words."""

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edged.keys import KeyStore

if TYPE_CHECKING:
    from edged.config import Config

__all__ = [
    "checked_endpoint",
    "is_off_loopback",
    "key_problems",
    "keys_folder",
    "open_warnings",
    "share_a_place",
    "wants_keys",
]

HOST = re.compile(r"[A-Za-z0-9_.-]+|\*|\[[0-9A-Fa-f:.%]+\]")
"""An address, an interface, or `*` for all of them."""


EVERY_HOST = {"tcp://*", "tcp://0.0.0.0", "tcp://[::]"}


def checked_endpoint(endpoint: str) -> str:
    """`endpoint`, if a socket can be bound there. Raises ValueError."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        return endpoint
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and HOST.fullmatch(host) and (port == "*" or (port.isascii() and port.isdigit())):
        return endpoint
    raise ValueError(f"{endpoint!r} is no endpoint; give tcp://ADDRESS:PORT or ipc:///PATH")


def is_off_loopback(endpoint: str) -> bool:
    """Whether other machines may reach it. Names are not looked up: what a name server says may change."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return False
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def share_a_place(one: str, other: str) -> bool:
    """Whether two sockets cannot both be bound; a port that the system chooses is nobody else's."""
    if one.startswith("ipc://") or other.startswith("ipc://"):
        return one == other
    (host, _, port), (other_host, _, other_port) = (where.rpartition(":") for where in (one, other))
    return port == other_port != "*" and (host == other_host or bool({host, other_host} & EVERY_HOST))


def keys_folder(config: "Config") -> Path:
    """Where the keys of a configuration lie."""
    return config.net.keys or config.cell.data_dir / "keys"


def wants_keys(config: "Config", name: str) -> bool:
    """Whether the socket of this name (verdicts, journal, control) lets in only listed keys."""
    if config.net.security == "curve":
        return True
    return is_off_loopback(_endpoints(config)[name]) and name not in config.net.off_loopback_without_keys


def key_problems(config: "Config") -> list[str]:
    """What keeps the sockets that want keys from having them; opens the files of keys."""
    wanting = [name for name in _endpoints(config) if wants_keys(config, name)]
    if not wanting:
        return []
    endpoints = _endpoints(config)
    listed = ", ".join(f"net.{name} ({endpoints[name]})" for name in wanting)
    reached = any(is_off_loopback(endpoints[name]) for name in wanting)
    way_out = "; without keys only if net.off_loopback_without_keys names it" if reached else ""
    return [
        f"net.keys: {problem} ({listed} must have keys{way_out})"
        for problem in KeyStore(keys_folder(config)).problems()
    ]


def open_warnings(config: "Config") -> list[str]:
    """One for every socket that anybody on the network may use."""
    says = {
        "verdicts": "anybody on the network may read verdicts, and give himself out as this cell",
        "journal": "anybody on the network may read verdicts",
        "control": "anybody on the network may arm, disarm and name seams",
    }
    return [
        f"net.{name} {endpoint} is open without keys: {says[name]}"
        for name, endpoint in _endpoints(config).items()
        if is_off_loopback(endpoint) and not wants_keys(config, name)
    ]


def _endpoints(config: "Config") -> dict[str, str]:
    return {
        "verdicts": config.net.verdicts,
        "journal": config.net.journal_endpoint,
        "control": config.control_endpoint,
    }
