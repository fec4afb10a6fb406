"""`edged bridge KIND`: runs one bridge until SIGTERM or Ctrl-C; systemd starts one process of each that is wanted."""

import asyncio
import contextlib
import enum
import importlib
import signal
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from edged.bridges.daemon_link import BridgeError, DaemonLink
from edged.client import KeysError
from edged.config import ConfigError, load_config
from edged.logs import configure_logging
from edged.service import ServiceNotifier

__all__ = ["Kind", "bridge"]

log = structlog.get_logger(__name__)


class Kind(enum.StrEnum):
    """Which bridge; its module has `async serve(section, link, notifier)`, which runs until it is cancelled."""

    MODBUS = "modbus"
    MQTT = "mqtt"
    OPCUA = "opcua"


MODULES = {
    Kind.MODBUS: "edged.bridges.modbus",
    Kind.MQTT: "edged.bridges.mqtt",
    Kind.OPCUA: "edged.bridges.opcua",
}
"""Imported only when asked for: each needs a library of the extra `bridges`."""


def bridge(
    kind: Annotated[Kind, typer.Argument(help="Which bridge.")],
    config: Annotated[Path, typer.Option(help="Configuration, TOML; the section is [bridges.KIND].")],
) -> None:
    """Bring verdicts to PLCs that speak no ZeroMQ."""
    configure_logging(f"bridge-{kind}")
    try:
        loaded = load_config(config)
        section = getattr(loaded.bridges, kind, None)
        if section is None:
            raise ConfigError(str(config), [f"bridges.{kind}: missing; see docs/{kind}.md"])
        link = DaemonLink.of(loaded, section)
        module = importlib.import_module(MODULES[kind])
    except ImportError as error:
        typer.echo(f"the {kind} bridge needs more packages ({error}): pip install 'edged[bridges]'", err=True)
        raise typer.Exit(2) from error
    except (ConfigError, KeysError, BridgeError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    try:
        number = asyncio.run(_until_stopped(module, section, link))
    except BridgeError as error:
        log.critical("the bridge ends", error=str(error))
        raise typer.Exit(1) from error
    if number == signal.SIGINT:
        raise typer.Exit(130)


async def _until_stopped(module: Any, section: Any, link: DaemonLink) -> int:
    """Serve until a signal, whose number is returned; what `serve` raises comes out."""
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    with contextlib.closing(ServiceNotifier.from_environment()) as notifier:
        serving = asyncio.ensure_future(module.serve(section, link, notifier))
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
            raise BridgeError("it ended by itself")
        notifier.stopping()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    return stopped.result()
