"""Verdicts as Sparkplug B: this bridge is the edge node, the cell is the device below it.

The device is born when the daemon is heard and dies when it falls silent, so a host marks its values stale. Birth,
death, `bdSeq` and `seq` follow the Sparkplug specification 3.0.0, sections 5 and 6; births and data have QoS 0 there.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog

from edged.bridges.mqtt_messages import AT_LEAST_ONCE, AT_MOST_ONCE, Outgoing, checked_label, topic_level
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.sparkplug_payload import Metric, PayloadError, decode, encode

__all__ = ["DEVICE_METRICS", "SparkplugSession"]

log = structlog.get_logger(__name__)

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
SEQUENCES = 256

_DAEMON = {
    "state": "String", "armed": "String", "software": "String", "config_id": "String",
    "is_simulated": "Boolean", "last_sequence": "UInt64",
}  # fmt: skip
_SEAM = {
    "journal_id": "String", "sequence": "UInt64", "seam_id": "String", "program": "String", "torch": "String",
    "part_id": "String", "seam_ref": "String", "label": "UInt8", "reason": "String", "reason_text": "String",
    "detail": "String", "mode": "String", "degraded": "Boolean", "score": "Double", "shadow_label": "UInt8",
    "is_simulated": "Boolean", "decided_utc": "DateTime",
}  # fmt: skip
_PART = {
    "journal_id": "String", "sequence": "UInt64", "part_id": "String", "label": "UInt8", "reason": "String",
    "reason_text": "String", "detail": "String", "shadow_label": "UInt8", "is_simulated": "Boolean",
    "decided_utc": "DateTime",
}  # fmt: skip

DEVICE_METRICS: Final[dict[str, dict[str, str]]] = {"daemon": _DAEMON, "verdict": _SEAM, "part": _PART}
"""Group of metrics → field of edged's wire → Sparkplug's type. A metric is called `GROUP/FIELD`."""


def _has_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "String": lambda value: isinstance(value, str) and _has_utf8(value),
    "Boolean": lambda value: isinstance(value, bool),
    "Double": lambda value: type(value) in (int, float) and math.isfinite(value),
    "UInt8": lambda value: type(value) is int and 0 <= value < 2**8,
    "UInt64": lambda value: type(value) is int and 0 <= value < 2**64,
    "DateTime": lambda value: type(value) is int and 0 <= value < 2**63,
}


class SparkplugSession:
    """Decides what is published as Sparkplug B in one connection.

    Args:
        bd_seq: the connection's number, 0 to 255; the will and every birth of it carry it.
        utc_ms: the clock of timestamps.
    """

    def __init__(self, config: MqttConfig, cell: str, bd_seq: int, utc_ms: Callable[[], int]) -> None:
        self._group, self._node = config.sparkplug_group or "edged", config.sparkplug_node
        self._device = topic_level(cell)
        self._bd_seq = bd_seq % SEQUENCES
        self._utc_ms = utc_ms
        self._seq = 0
        self._born = False
        self._values: dict[str, Metric] = {}
        self._historical_to: int | None = None
        self._last_sequence = 0
        self._unshown = False
        self.rejected_commands = 0

    @property
    def will(self) -> Outgoing:
        """The node's death certificate; it has no seq, and `bdSeq` says which birth it ends."""
        return Outgoing(self._topic("NDEATH"), encode([self._bd_seq_metric()], self._utc_ms(), None), AT_LEAST_ONCE)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Commands to the node."""
        return (self._topic("NCMD"),)

    @property
    def fence(self) -> str | None:
        """Data has QoS 0 by the specification, so its arrival must be asked for."""
        return self._topic("NCMD") + "/fence"

    def opened(self) -> list[Outgoing]:
        """A new connection: the node is born; its device when the daemon is heard."""
        self._born = False
        return [self._node_birth()]

    def state(self, state: str) -> list[Outgoing]:
        """A silent daemon is a dead device."""
        if state == "live":
            return self._ensure_born()
        self._historical_to = None
        if not self._born:
            return []
        self._born = False
        return [self._send("DDEATH", [])]

    def told(self, topic: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """What the heartbeat says, where it changed."""
        if topic != "heartbeat":
            return []
        if self._historical_to is None:
            last = message.get("last_sequence")
            self._historical_to = last if type(last) is int else 0
        armed = message.get("armed")
        flat = {**message, "armed": ",".join(map(str, armed)) if isinstance(armed, list) else None}
        changed = self._update("daemon", flat, self._utc_ms(), is_historical=False)
        out = self._ensure_born()
        if not out and changed:
            out.append(self._send("DDATA", changed))
        return out + self._show_history()

    def entry(self, topic: str, sequence: int, journal_id: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """A verdict; those that waited in the journal are historical, so that hosts do not take them for news."""
        historical = self._historical_to is None or sequence <= self._historical_to
        out = self._ensure_born()
        decided_ns = message.get("decided_utc_ns")
        decided_ms = decided_ns // 1_000_000 if _FITS["DateTime"](decided_ns) else self._utc_ms()  # type: ignore[operator]
        known = {
            **message,
            "sequence": sequence,
            "journal_id": journal_id,
            "label": checked_label(message),
            "decided_utc": decided_ms,
        }
        group = "part" if topic == "part" else "verdict"
        self._update(group, known, decided_ms, is_historical=historical)
        out.append(self._send("DDATA", self._group_metrics(group)))
        self._last_sequence = sequence
        self._unshown |= historical
        return out + self._show_history()

    def lost(self, first: int, last: int) -> list[Outgoing]:
        """Hosts see the jump in `verdict/sequence`."""
        return []

    def command(self, topic: str, payload: bytes) -> list[Outgoing]:
        """A host that missed something asks for a rebirth; nothing else can be commanded."""
        try:
            metrics, _, _ = decode(payload)
        except PayloadError as error:
            return self._reject(str(error))
        if not any(metric.name == REBIRTH and metric.value is True for metric in metrics):
            return self._reject(f"nothing but {REBIRTH} is followed")
        was_born, self._born = self._born, False
        return [self._node_birth(), *(self._ensure_born() if was_born else [])]

    def _reject(self, why: str) -> list[Outgoing]:
        self.rejected_commands = count = self.rejected_commands + 1
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, …: whoever floods the broker does not flood the log
            log.warning("commands rejected", count=count, why=why[:200])
        return []

    def closing(self) -> list[Outgoing]:
        """An orderly end sends no will, so the death certificate goes out by hand."""
        return [self.will]

    def _node_birth(self) -> Outgoing:
        self._seq = 0
        return self._send("NBIRTH", [self._bd_seq_metric(), Metric(REBIRTH, "Boolean", value=False)])

    def _ensure_born(self) -> list[Outgoing]:
        if self._born:
            return []
        self._born = True
        self._unshown = False
        # A birth states what is so now: its values are current, whatever they were when they came.
        metrics = [metric for group in DEVICE_METRICS for metric in self._group_metrics(group, is_historical=False)]
        return [self._send("DBIRTH", metrics)]

    def _show_history(self) -> list[Outgoing]:
        """After a backlog, one more birth makes its last values the current ones."""
        if not self._unshown or self._historical_to is None or self._last_sequence < self._historical_to:
            return []
        self._born = False
        return self._ensure_born()

    def _update(self, group: str, message: Mapping[str, Any], at_ms: int, *, is_historical: bool) -> list[Metric]:
        """Take over the group's values; returns the metrics whose value changed."""
        changed = []
        for field, kind in DEVICE_METRICS[group].items():
            value = message.get(field)
            metric = Metric(f"{group}/{field}", kind, value if _FITS[kind](value) else None, at_ms, is_historical)
            before = self._values.get(metric.name)
            if before is None or before.value != metric.value:
                changed.append(metric)
            self._values[metric.name] = metric
        return changed

    def _group_metrics(self, group: str, *, is_historical: bool | None = None) -> list[Metric]:
        found = []
        for field, kind in DEVICE_METRICS[group].items():
            name = f"{group}/{field}"
            known = self._values.get(name) or Metric(name, kind, None, self._utc_ms())
            historical = known.is_historical if is_historical is None else is_historical
            found.append(Metric(name, kind, known.value, known.timestamp_ms, historical))
        return found

    def _bd_seq_metric(self) -> Metric:
        return Metric("bdSeq", "Int64", self._bd_seq)

    def _send(self, kind: str, metrics: Iterable[Metric]) -> Outgoing:
        seq, self._seq = self._seq, (self._seq + 1) % SEQUENCES
        return Outgoing(self._topic(kind), encode(metrics, self._utc_ms(), seq), AT_MOST_ONCE)

    def _topic(self, kind: str) -> str:
        place = f"{NAMESPACE}/{self._group}/{kind}/{self._node}"
        return f"{place}/{self._device}" if kind.startswith("D") else place
