"""`edged bridge mqtt`: verdicts to a broker, as retained JSON and, where wanted, as Sparkplug B. See docs/mqtt.md."""

import asyncio
import functools
import time
from typing import Any

import structlog

from edged.bridges.daemon_link import DaemonLink
from edged.bridges.mqtt_feed import Access, Feed
from edged.bridges.mqtt_json import JsonSession
from edged.bridges.mqtt_messages import Session
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.sparkplug import SparkplugSession
from edged.service import ServiceNotifier

__all__ = ["feeds_of", "serve"]

log = structlog.get_logger(__name__)

TELL_EVERY_S = 1.0


async def serve(config: MqttConfig, link: DaemonLink, notifier: ServiceNotifier) -> None:
    """Run until cancelled. Raises BridgeError for unusable files, or where the position cannot be written down."""
    if not config.uses_tls:
        log.warning("verdicts travel in clear text", broker=config.host, without_tls=config.without_tls)
    feeds = feeds_of(config, link)
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(feed.run()) for feed in feeds]
    notifier.ready()
    try:
        while True:
            done, _ = await asyncio.wait(tasks, timeout=TELL_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            notifier.watchdog(", ".join(_summary(feed) for feed in feeds))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def feeds_of(config: MqttConfig, link: DaemonLink) -> list[Feed]:
    """JSON always, Sparkplug where it has a group. Raises BridgeError for unusable files."""
    access = Access.of(config)

    def json_session(_: int) -> Session:
        return JsonSession(config, link.cell, time.monotonic_ns)

    feeds = [Feed("json", config, link, access, json_session, config.state_file, acknowledges=True)]
    if config.sparkplug_group is not None:
        session = functools.partial(SparkplugSession, config, link.cell, utc_ms=lambda: time.time_ns() // 1_000_000)
        state_file = config.state_file.with_name(f"sparkplug-{config.state_file.name}")
        feeds.append(Feed("sparkplug", config, link, access, session, state_file, acknowledges=False))
    return feeds


def _summary(feed: Feed) -> str:
    return f"{feed.name} {'connected' if feed.is_connected else 'without broker'}, {feed.delivered} delivered"
