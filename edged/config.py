"""The configuration: one TOML file, validated at once, every problem reported with its path.

`edged check` prints what `load_config` raises; `edged run` exits 2 on it.
"""

import copy
import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from calibration.acoustics import sound_delay_ns
from drivers.base import StreamKind
from edged.bridges.settings import BridgesConfig
from edged.client.endpoints import journal_endpoint
from edged.config_problems import driver_problems, reference_problems, validation_lines
from edged.limits import Limits
from edged.net_rules import checked_endpoint, share_a_place
from edged.types import ConfigMode

__all__ = ["Config", "ConfigError", "ProgramConfig", "StreamConfig", "load_config", "parse_config", "read_config"]

DEFAULT_DATA_DIR = Path("/var/lib/edged")


class ConfigError(Exception):
    """The configuration is wrong; `problems` has one "path: what is wrong" line per problem."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"{source}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems))

    def __reduce__(self) -> tuple[type[Self], tuple[str, list[str]]]:
        """Exceptions are copied between processes by their arguments, which here are not the message."""
        return type(self), (self.source, self.problems)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellConfig(_Section):
    """`[cell]`: who we are and where things lie."""

    name: str = "cell"
    data_dir: Path = DEFAULT_DATA_DIR
    default_program: str | None = None
    is_simulated: bool = False
    session: str | None = None


class StreamConfig(_Section):
    """`[streams.NAME]`: a driver, its options (validated by the driver itself) and its limits.

    Where a stream has gaps longer than `max_gap_ms` in a seam, or covers less than `min_coverage` of the arc,
    it is broken for that seam.
    """

    driver: str
    kind: StreamKind
    torch: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    ring_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    max_gap_ms: Annotated[float, Field(gt=0)] = 200.0
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.95
    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Constant delay from the world to the host's arrival time, subtracted when stamping."""
    exposure_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """How long one image collects light after its stamp, rolling read-out included."""
    readout_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """The rolling read-out's part of it; 0 for a global shutter."""
    distance_m: Annotated[float, Field(ge=0, le=100)] | None = None
    """A microphone's distance from the arc: sound takes 2.9 ms a metre, subtracted beside `latency_ms`."""
    air_c: Annotated[float, Field(ge=-40, le=80)] = 20.0
    """Temperature of the air between them; sound is 0.17 % faster for each degree."""
    max_drift_ppm: Annotated[float, Field(gt=0, le=500)] = 200.0
    """Health warns where the device's clock is further from its nominal rate."""
    follow_strikes: bool = False
    """Whether the delay that earlier seams' arc strikes show is taken off too, between seams."""

    @property
    def delay_ns(self) -> int:
        """What is known of the way from the world to the host's arrival time, sound in air included."""
        in_air_ns = 0 if self.distance_m is None else sound_delay_ns(self.distance_m, self.air_c)
        return round(self.latency_ms * 1e6) + in_air_ns

    @model_validator(mode="after")
    def _delays_that_can_be(self) -> Self:
        if self.distance_m is not None and self.kind != "audio":
            raise ValueError(f"distance_m {self.distance_m:g}: only a microphone has one; {self.kind} comes at once")
        if self.readout_ms > self.exposure_ms:
            raise ValueError(f"readout_ms {self.readout_ms:g} is part of exposure_ms, which is {self.exposure_ms:g}")
        return self

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Streams that say nothing of these read as they did before there were any, as views without a scan do.
        values: dict[str, Any] = plain(self)
        later = ("readout_ms", "distance_m", "air_c", "max_drift_ppm", "follow_strikes")
        defaults = {key: type(self).model_fields[key].default for key in later}
        return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


class ViewConfig(_Section):
    """`[views.NAME]`: what is taken of the finished seam, on the PLC's trigger plus `settle_ms`.

    On a camera: the first frame from then on. On a profile stream a *scan*: all rows of the `scan_s` from then on.
    """

    stream: str
    settle_ms: Annotated[float, Field(ge=0)] = 0.0
    scan_s: Annotated[float, Field(gt=0, le=600)] | None = None

    @property
    def is_scan(self) -> bool:
        """Whether it is a scan of a laser profiler and no image."""
        return self.scan_s is not None

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Views of cameras read as they did before there were scans, so config_id and recordings stay the same.
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if key != "scan_s" or value is not None}


Mm = Annotated[float, Field(allow_inf_nan=False)]


class FrameConfig(_Section):
    """`[programs.NAME.frame]`: where the results of its seams lie, mm; see `pipelines.window.SeamFrame`."""

    length_mm: Annotated[Mm, Field(gt=0, le=10_000)]
    lag_mm: Annotated[Mm, Field(ge=0, le=100)] = 0.0
    views: dict[str, tuple[Mm, Mm, Mm, Mm]] = Field(default_factory=dict)
    scan: tuple[Mm, Annotated[Mm, Field(gt=0)], Annotated[Mm, Field(gt=0)]] | None = None

    @model_validator(mode="after")
    def _extents(self) -> Self:
        for name, (from_mm, to_mm, left_mm, right_mm) in self.views.items():
            if from_mm >= to_mm or left_mm >= right_mm:
                raise ValueError(
                    f"views.{name}: {[from_mm, to_mm, left_mm, right_mm]} is no area; "
                    "give along from, along to, across from, across to, each from below its to"
                )
        return self


ADDED_LATER = ("frame", "limits", "sensor_faults", "false_alarm_budget")


class ProgramConfig(_Section):
    """`[programs.NAME]`: how the seams of one welding program are cut and judged."""

    mode: ConfigMode = "collecting"
    """Where it begins; `edged arm` and `edged disarm` change shadow and armed, never collecting."""
    model: str | None = None
    """Directory of the model; "demo" or "demo:NAME" is one that ships with edged."""
    travel_speed_mm_s: Annotated[float, Field(gt=0)] | None = None
    thermal_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.8
    """k of ISO/TR 18491; 0.8 for MAG welding (EN 1011-1)."""
    merge_gap_s: Annotated[float, Field(ge=0)] = 0.5
    min_arc_s: Annotated[float, Field(ge=0)] = 0.3
    expected_arcs: Annotated[int, Field(ge=1)] = 1
    pre_roll_s: Annotated[float, Field(ge=0, le=10)] = 0.5
    post_roll_s: Annotated[float, Field(ge=0, le=10)] = 0.3
    arc_deadline_s: Annotated[float, Field(gt=0)] = 60.0
    result_deadline_s: Annotated[float, Field(gt=0)] = 10.0
    views: Annotated[tuple[str, ...], Field(max_length=6)] = ()
    """Up to five photographs and a scan."""
    required: tuple[StreamKind, ...] = ("welder",)
    optional: tuple[StreamKind, ...] = ()
    max_sync_residual_ms: Annotated[float, Field(gt=0)] = 50.0
    frame: FrameConfig | None = None
    limits: Limits | None = None
    """What the welding procedure allows; an armed program's seam beyond a limit is NOK."""
    sensor_faults: Literal["judge", "report"] | None = None
    """Whether a faulty sensor of a required stream makes a seam INDETERMINATE ("judge", the default)."""
    false_alarm_budget: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of good seams that may be NOK; None: what each threshold was made for."""

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Programs without these keys read as they did before there were any, as views without a scan do.
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if key not in ADDED_LATER or value is not None}


class PartsConfig(_Section):
    """`[parts]`: a part of m seams has each judged at `false_alarm_budget` / m, or is in shadow."""

    false_alarm_budget: Annotated[float, Field(gt=0, le=0.5)]


class ArcConfig(_Section):
    """`[arc]`: the arc detector on the current's envelope (its maximum over `hold_ms`)."""

    on_current_a: Annotated[float, Field(gt=0)] = 30.0
    off_current_a: Annotated[float, Field(gt=0)] = 15.0
    hold_ms: Annotated[float, Field(gt=0)] = 40.0

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.off_current_a >= self.on_current_a:
            raise ValueError(f"off_current_a {self.off_current_a} must lie below on_current_a {self.on_current_a}")
        return self


class RecordingConfig(_Section):
    """`[recording]`: what is kept; the oldest OK recordings go first when `max_gb` is reached."""

    max_gb: Annotated[float, Field(gt=0)] = 100.0
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0


ClientName = Annotated[str, Field(min_length=1, max_length=64)]


class NetConfig(_Section):
    """`[net]`: endpoints. Relative ipc paths are not allowed; `ipc://` default to `data_dir/run/`."""

    verdicts: str = "tcp://127.0.0.1:5560"
    control: str | None = None
    """None: `ipc://DATA_DIR/run/control.sock`, mode 0600."""
    journal: str | None = None
    """Where missed verdicts are asked for; None: the port after that of `verdicts`, or its ipc path + ".journal"."""
    keys: Path | None = None
    """Folder of `edged keys`; None: `DATA_DIR/keys`."""
    security: Literal["auto", "curve"] = "auto"
    """"auto": keys where other machines reach a socket; "curve": on loopback and ipc too."""
    off_loopback_without_keys: tuple[Literal["verdicts", "journal", "control"], ...] = ()
    """Sockets that anybody on the network may use; health and log warn of it for ever."""
    acknowledge: Annotated[tuple[ClientName, ...], Field(max_length=64)] = ()
    """Clients that are to acknowledge verdicts; health shows what waits for each."""
    acknowledge_within_s: Annotated[float, Field(gt=0)] = 60.0
    """Health warns where a verdict has waited for longer."""

    @property
    def journal_endpoint(self) -> str:
        """Where missed verdicts are asked for.

        One place further where the control socket has the one beside `verdicts`, as cells from before there was
        this socket may have it; clients must then be told.
        """
        if self.journal is not None:
            return self.journal
        beside = journal_endpoint(self.verdicts)
        is_taken = self.control is not None and share_a_place(beside, self.control)
        return journal_endpoint(beside) if is_taken else beside

    @model_validator(mode="after")
    def _bindable(self) -> Self:
        for endpoint in (self.verdicts, self.control):
            if endpoint is not None:
                checked_endpoint(endpoint)
        checked_endpoint(self.journal_endpoint)  # made from those two
        return self

    @model_validator(mode="after")
    def _with_keys_or_without(self) -> Self:
        if self.security == "curve" and self.off_loopback_without_keys:
            names = ", ".join(self.off_loopback_without_keys)
            raise ValueError(f"off_loopback_without_keys: {names} cannot go without keys where security is 'curve'")
        return self

    @model_validator(mode="after")
    def _each_its_own(self) -> Self:
        for name, taken in (("verdicts", self.verdicts), ("control", self.control)):
            if taken is not None and share_a_place(taken, self.journal_endpoint):
                raise ValueError(f"journal: {taken} is taken by net.{name}; give net.journal an endpoint of its own")
        return self

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Reads as it did before there were more than these two, as views without a scan do.
        values: dict[str, Any] = plain(self)
        said = {key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default}
        return {key: value for key, value in values.items() if key in said | {"verdicts", "control"}}


class WorkerConfig(_Section):
    """`[worker]`: the scoring process."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    finish_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """How long a ready process may take over a seam."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """How long seams wait for a process that still loads its models; no verdict takes longer than both together."""
    queue_mb: Annotated[int, Field(ge=8)] = 256


class CalibrationConfig(_Section):
    """`[calibration]`: where the files of `edged calibrate` lie, and which a verdict needs."""

    directory: Path | None = None
    """None: `DATA_DIR/calibration`."""
    required: tuple[str, ...] = ()
    """As "kind:device"; a seam whose program uses the device has no verdict without it."""
    max_age_days: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """By kind, beside the `valid_days` of each file."""


class ChildrenConfig(_Section):
    """`[children]`: environment that ALSA, FFmpeg and OpenMP want; exported to child processes only."""

    env: dict[str, str] = Field(default_factory=dict)


class Config(_Section):
    """The whole file. `config_id` is a digest over its meaning, carried by every verdict."""

    cell: CellConfig = CellConfig()
    streams: dict[str, StreamConfig]
    views: dict[str, ViewConfig] = Field(default_factory=dict)
    programs: dict[str, ProgramConfig] = Field(default_factory=dict)
    arc: ArcConfig = ArcConfig()
    recording: RecordingConfig = RecordingConfig()
    net: NetConfig = NetConfig()
    worker: WorkerConfig = WorkerConfig()
    children: ChildrenConfig = ChildrenConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    parts: PartsConfig | None = None
    bridges: Annotated[BridgesConfig | None, Field(exclude=True)] = None
    """Left out of everything that is derived from the configuration: a bridge changes no verdict."""

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cells without these sections read as they did before there were any, as programs without a frame do.
        values: dict[str, Any] = plain(self)
        unsaid = {"calibration": self.calibration == _UNSAID, "parts": self.parts is None}
        return {key: value for key, value in values.items() if not unsaid.get(key, False)}

    @property
    def config_id(self) -> str:
        """First 12 hex digits of the sha256 over the validated configuration."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def calibration_directory(self) -> Path:
        """Where the calibrations lie."""
        return self.calibration.directory or self.cell.data_dir / "calibration"

    @property
    def control_endpoint(self) -> str:
        """Where the control socket listens."""
        return self.net.control or f"ipc://{self.cell.data_dir}/run/control.sock"


_UNSAID = CalibrationConfig()


def load_config(path: Path) -> Config:
    """Read and validate a config file. Raises ConfigError with every problem at once."""
    config, problems = read_config(path)
    if problems or config is None:
        raise ConfigError(str(path), problems)
    return config


def read_config(path: Path) -> tuple[Config | None, list[str]]:
    """Every problem of a config file, and what can be made of the rest (None: nothing)."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return None, [f"cannot be read: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return None, [f"not valid TOML: {error}"]
    return _examine(raw)


def parse_config(raw: dict[str, Any], source: str = "config") -> Config:
    """Validate a decoded config: its form, each driver's options and the references between sections."""
    config, problems = _examine(raw)
    if problems or config is None:
        raise ConfigError(source, problems)
    return config


def _examine(raw: dict[str, Any]) -> tuple[Config | None, list[str]]:
    problems: list[str] = []
    config: Config | None = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += validation_lines(error)
        config = _rest(raw, error)
    problems += driver_problems(raw)
    if config is not None:
        problems += reference_problems(config)
    return config, problems


def _rest(raw: dict[str, Any], error: ValidationError) -> Config | None:
    """The config without its wrong keys, so that what they hide is reported too; None where it does not stand."""
    pruned = copy.deepcopy(raw)
    for item in error.errors():
        *parents, key = item["loc"] or ("",)
        section: Any = pruned
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(key, None)
    try:
        return Config.model_validate(pruned)
    except ValidationError:
        return None
