"""The wire format: what subscribers receive, as pydantic models, and the msgpack bytes made from them.

It stands between the journal and the publisher: `edged.wire_encode` fills the models, the journal stores the bytes
made here and the publisher sends those very bytes. A message is two frames, `[topic, msgpack map]`; `docs/verdict.md`
explains it to subscribers.
The models ignore unknown fields, so that a newer daemon can add some.

Errors::

    WireError              bytes or values that must not go over the wire, with the field and the value
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgpack
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from edged.types import FindingState, Label, LimitState, Mode, StreamState

__all__ = [
    "MAX_FINDINGS",
    "MAX_PAYLOAD_BYTES",
    "SCHEMA",
    "AcknowledgementMessage",
    "ArcMessage",
    "FindingMessage",
    "HealthMessage",
    "HeartbeatMessage",
    "LimitMessage",
    "LiveMessage",
    "Message",
    "PartMessage",
    "ProgramHealthMessage",
    "TimePair",
    "VerdictMessage",
    "WireError",
    "as_map",
    "decode",
    "pack",
    "unpack",
    "verdict_topic",
]

SCHEMA = 1
"""Number of the wire format; grows only when a field changes its meaning, never when one is added."""

MAX_PAYLOAD_BYTES = 256 * 1024
MAX_TIMELINE_POINTS = 1024
MAX_ALONG_POINTS = 1024
MAX_TEXT_CHARS = 1000
MAX_MAP_ENTRIES = 256
MAX_FINDINGS = 32


def _is_number(label: object) -> object:
    if not isinstance(label, int) or isinstance(label, bool):
        raise ValueError("a label is the number 0, 1 or 2, and nothing that may be taken for one")
    return label


WireLabel = Annotated[Label, BeforeValidator(_is_number)]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
UtcNs = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[list[Text], Field(max_length=1024)]
Values = Annotated[dict[str, FiniteFloat | None], Field(max_length=MAX_MAP_ENTRIES)]


class WireError(ValueError):
    """Bytes or values that must not go over the wire; names the field, the value and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class TimePair:
    """The same instant on both clocks, by which monotonic times become UTC at the edge of the process."""

    monotonic_ns: int
    utc_ns: int

    @classmethod
    def now(cls) -> Self:
        """Read both clocks, the monotonic one on both sides so that a preempted reading is halved."""
        before = time.monotonic_ns()
        utc = time.time_ns()
        return cls((before + time.monotonic_ns()) // 2, utc)

    def utc(self, monotonic_ns: int) -> int:
        """UTC ns of a monotonic time; 0 where it would lie before 1970."""
        return max(0, self.utc_ns + monotonic_ns - self.monotonic_ns)


class Message(BaseModel):
    """Base of everything on the wire; unknown fields are ignored. `as_map` puts `schema` in front."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class IntegrityMessage(Message):
    """How much of one stream the seam has."""

    kind: Text
    state: Text
    coverage: FiniteFloat
    items: Count
    lost_items: Count
    gaps: Count
    longest_gap_ms: FiniteFloat | None
    sync_residual_ms: FiniteFloat | None


class ArcMessage(Message):
    """What was measured of the seam's arcs."""

    arc_s: FiniteFloat | None
    pause_s: FiniteFloat | None
    restrikes: Count
    dips: Count
    mean_current_a: FiniteFloat | None
    mean_voltage_v: FiniteFloat | None
    rms_current_a: FiniteFloat | None
    rms_voltage_v: FiniteFloat | None
    peak_current_a: FiniteFloat | None
    base_current_a: FiniteFloat | None
    mean_power_w: FiniteFloat | None
    arc_energy_j: FiniteFloat | None
    arc_energy_j_mm: FiniteFloat | None
    heat_input_kj_mm: FiniteFloat | None
    short_circuit_hz: FiniteFloat | None
    short_circuit_ms: FiniteFloat | None
    pulse_hz: FiniteFloat | None
    transfer_mode: Text | None
    length_mm: FiniteFloat | None
    length_is_nominal: bool
    travel_speed_mm_s: FiniteFloat | None


class LimitMessage(Message):
    """One limit of the program against what was measured."""

    name: Text
    state: LimitState
    value: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    unit: Text
    mode: Text | None
    wanted: Text | None


class FindingMessage(Message):
    """Something wrong with a stream's sensor."""

    code: Text
    state: FindingState
    value: FiniteFloat | None
    limit: FiniteFloat | None
    unit: Text
    since_utc_ns: UtcNs
    detail: Text


class VerdictMessage(Message):
    """Topic `verdict/<program>`: one seam's verdict."""

    kind: Literal["verdict"] = "verdict"
    journal_id: Text
    sequence: Count
    seam_id: Text
    cell: Text
    torch: Text
    program: Text
    part_id: Text | None
    seam_ref: Text | None
    pass_index: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    session: Text | None
    label: WireLabel
    reason: Text
    reason_text: Text
    detail: Text
    mode: Mode
    degraded: bool
    shadow_label: WireLabel | None
    score: FiniteFloat | None
    raw_score: FiniteFloat | None
    p_value: FiniteFloat | None
    threshold: FiniteFloat | None
    threshold_id: Text | None
    components: Values
    by_modality: Values
    explain: Values
    timeline: Annotated[
        list[tuple[FiniteFloat, FiniteFloat | None, FiniteFloat | None]], Field(max_length=MAX_TIMELINE_POINTS)
    ]
    along: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(max_length=MAX_ALONG_POINTS)] = []
    """Messages from before there was this field have none."""
    stage_ms: Values
    integrity: Annotated[dict[str, IntegrityMessage], Field(max_length=MAX_MAP_ENTRIES)]
    arc_on_utc_ns: UtcNs
    arcs_utc_ns: Annotated[list[tuple[UtcNs, UtcNs]], Field(max_length=1024)]
    arc_s: FiniteFloat | None
    mean_current_a: FiniteFloat | None
    mean_voltage_v: FiniteFloat | None
    travel_speed_mm_s: FiniteFloat | None
    speed_is_nominal: bool
    arc_energy_j_mm: FiniteFloat | None
    heat_input_kj_mm: FiniteFloat | None
    latency_from_arc_off_ms: FiniteFloat | None
    latency_from_last_input_ms: FiniteFloat | None
    model_id: Text | None
    calibration_id: Text
    calibration_warnings: Annotated[list[Text], Field(max_length=MAX_MAP_ENTRIES)] = Field(default_factory=list)
    config_id: Text
    is_simulated: bool
    decided_utc_ns: UtcNs
    recording: Text | None
    arc: ArcMessage | None = None
    limits: Annotated[list[LimitMessage], Field(max_length=MAX_MAP_ENTRIES)] = []
    sensor_health: Annotated[
        dict[str, Annotated[list[FindingMessage], Field(max_length=MAX_FINDINGS)]], Field(max_length=MAX_MAP_ENTRIES)
    ] = {}
    false_alarm_budget: FiniteFloat | None = None


class PartSeamMessage(Message):
    """One seam inside a part's verdict."""

    seam_ref: Text | None
    seam_id: Text | None
    label: WireLabel
    reason: Text


class PartMessage(Message):
    """Topic `part`: a whole part's verdict."""

    kind: Literal["part"] = "part"
    journal_id: Text
    sequence: Count
    cell: Text
    part_id: Text
    label: WireLabel
    reason: Text
    reason_text: Text
    detail: Text
    seams: Annotated[list[PartSeamMessage], Field(max_length=1024)]
    config_id: Text
    is_simulated: bool
    decided_utc_ns: UtcNs
    missing: Names = []
    extra: Names = []
    too_short: Names = []
    too_long: Names = []
    shadow_label: WireLabel | None = None


class ProgramHealthMessage(Message):
    """How far one program has come."""

    mode: Mode
    why: Text
    model_id: Text | None
    goods: Count
    sessions: Count | None
    needed: Count
    false_alarm_budget: FiniteFloat | None
    by: Text | None
    since_utc_ns: UtcNs | None
    drift: FiniteFloat


class StreamHealthMessage(Message):
    """State of one stream."""

    kind: Text
    state: StreamState
    measured_hz: FiniteFloat | None
    nominal_hz: FiniteFloat | None
    items: Count
    lost: Count
    gaps: Count
    reconnects: Count
    overwritten: Count
    last_utc_ns: UtcNs | None
    drift_ppm: FiniteFloat | None
    clock_residual_ms: FiniteFloat | None
    error: Text | None
    clock_steps: Count = 0
    latency_ms: FiniteFloat | None = None
    strike_ms: FiniteFloat | None = None
    strikes: Count = 0


class AcknowledgementMessage(Message):
    """How far a client that acknowledges has come."""

    sequence: Count
    waiting: Count
    oldest_utc_ns: UtcNs | None


class HealthMessage(Message):
    """Topic `health`: state of the streams, the worker and the disk, each second."""

    kind: Literal["health"] = "health"
    journal_id: Text
    cell: Text
    state: Literal["ok", "degraded", "fault"]
    warnings: Annotated[list[Text], Field(max_length=MAX_MAP_ENTRIES)]
    streams: Annotated[dict[str, StreamHealthMessage], Field(max_length=MAX_MAP_ENTRIES)]
    worker: Annotated[dict[str, Any], Field(max_length=MAX_MAP_ENTRIES)]
    programs: Annotated[dict[str, ProgramHealthMessage], Field(max_length=MAX_MAP_ENTRIES)] = Field(
        default_factory=dict
    )
    config_id: Text
    utc_ns: UtcNs
    acknowledgements: Annotated[dict[str, AcknowledgementMessage], Field(max_length=MAX_MAP_ENTRIES)] = {}
    net: Annotated[dict[str, Count], Field(max_length=MAX_MAP_ENTRIES)] = {}


class HeartbeatMessage(Message):
    """Topic `heartbeat`: proof of life, the last sequence and whose they are, each second."""

    kind: Literal["heartbeat"] = "heartbeat"
    journal_id: Text
    last_sequence: Count
    state: Literal["ok", "degraded", "fault"]
    utc_ns: UtcNs
    cell: Text = ""
    software: Text = ""
    armed: Annotated[list[Text], Field(max_length=MAX_MAP_ENTRIES)] = []
    is_simulated: bool = False
    config_id: Text = ""


class LiveMessage(Message):
    """Topic `live`: after each 100 ms of a burning seam, how far its process has left its program's good welds.

    It warns and never decides: it has no label, is not journaled, and nobody who joins late gets an old one.
    """

    kind: Literal["live"] = "live"
    seam_id: Text
    cell: Text
    torch: Text
    program: Text
    part_id: Text | None
    seam_ref: Text | None
    t_s: FiniteFloat
    mm: FiniteFloat | None
    mm_is_nominal: bool
    score: FiniteFloat | None
    raw_score: FiniteFloat
    components: Values
    without: Annotated[list[Text], Field(max_length=MAX_MAP_ENTRIES)]
    until_utc_ns: UtcNs
    is_simulated: bool


MESSAGES: dict[str, type[Message]] = {
    "verdict": VerdictMessage,
    "part": PartMessage,
    "health": HealthMessage,
    "heartbeat": HeartbeatMessage,
    "live": LiveMessage,
}
"""First part of a topic → what its payload is."""


def verdict_topic(program: str) -> str:
    """The topic of a program's verdicts; seams of no configured program go under `verdict/unknown`."""
    return f"verdict/{program or 'unknown'}"


def as_map(message: Message) -> dict[str, Any]:
    """A message as the plain map that is packed; labels are numbers in it."""
    return {"schema": SCHEMA, **message.model_dump(mode="python")}


def pack(message: Mapping[str, Any]) -> bytes:
    """msgpack bytes of a map. Raises WireError beyond `MAX_PAYLOAD_BYTES`."""
    payload: bytes = msgpack.packb(message)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"{message.get('kind')} message has {len(payload)} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    return payload


def decode(topic: bytes | str, payload: bytes) -> Message:
    """Validate a received message. Raises WireError naming the topic and what is wrong with it."""
    name = topic.decode(errors="replace") if isinstance(topic, bytes) else topic
    model = MESSAGES.get(name.partition("/")[0])
    if model is None:
        raise WireError(f"topic {name!r} is none of {', '.join(MESSAGES)}")
    found = unpack(payload)
    if found.get("schema") != SCHEMA:
        raise WireError(f"topic {name}: schema {found.get('schema')!r} is not {SCHEMA}; a newer subscriber is needed")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise WireError(f"topic {name}: {error}") from error


def unpack(payload: bytes) -> dict[str, Any]:
    """The map in msgpack bytes, within the limits of the format. Raises WireError."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"{len(payload)} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    try:
        found = msgpack.unpackb(payload)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise WireError(f"a map with text keys is needed, got {type(found).__name__}")
    return found
