"""Where the journal socket stands, given where verdicts are published; daemon and client derive it alike."""

__all__ = ["journal_endpoint"]

LAST_PORT = 65535


def journal_endpoint(verdicts: str) -> str:
    """The endpoint of the journal socket: tcp port + 1 (`*` stays `*`), ipc path + ".journal".

    Raises ValueError for an endpoint that is neither, or whose port has none above it.
    """
    scheme, _, rest = verdicts.partition("://")
    if scheme == "ipc" and rest:
        return f"{verdicts}.journal"
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not (port == "*" or (port.isascii() and port.isdigit())):
        raise ValueError(f"{verdicts!r}: tcp://HOST:PORT or ipc://PATH is needed to tell where the journal socket is")
    if port == "*":
        return verdicts
    if not 0 < int(port) < LAST_PORT:
        raise ValueError(f"{verdicts!r}: port {port} has none above it for the journal socket; name net.journal")
    return f"{scheme}://{host}:{int(port) + 1}"
