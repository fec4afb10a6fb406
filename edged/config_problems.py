"""What pydantic cannot see in a configuration: drivers' options, and references between its sections.

`edged.config` collects these with its own, so that every problem is reported at once. Nothing here opens a device.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from calibration.kinds import KINDS
from drivers.base import DeviceError, StreamKind, StreamSpec
from drivers.table import driver_class

if TYPE_CHECKING:
    from edged.config import Config, ProgramConfig

__all__ = ["driver_problems", "reference_problems", "validation_lines"]


def validation_lines(error: ValidationError, prefix: str = "") -> list[str]:
    """One "path: what is wrong" line per problem that pydantic found."""
    lines = []
    for item in error.errors():
        path = prefix + ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key")
        else:
            shown = "" if item["type"] == "missing" else f" (got {item['input']!r:.80})"
            lines.append(f"{path.rstrip('.') or 'file'}: {item['msg']}{shown}")
    return lines


def driver_problems(raw: Mapping[str, Any]) -> list[str]:
    """Unknown drivers, wrong options, and streams whose `kind` is not what their driver delivers."""
    problems: list[str] = []
    specs: list[StreamSpec] = []
    streams = raw.get("streams")
    for name, stream in streams.items() if isinstance(streams, dict) else ():
        if not isinstance(stream, dict) or not isinstance(driver := stream.get("driver"), str):
            continue
        try:
            found, spec = _stream_problems(name, driver, stream)
        except DeviceError as error:
            problems.append(f"streams.{name}.driver: {error}")
            continue
        except ValidationError as error:
            problems += validation_lines(error, f"streams.{name}.options.")
            continue
        problems += found
        specs += [] if spec is None else [spec]
    welders = [spec for spec in specs if spec.kind == "welder"]
    if welders and not problems and not any("current" in spec.channels for spec in welders):
        names = ", ".join(spec.name for spec in welders)
        problems.append(f"streams: no welder stream has a channel 'current' ({names}); arcs are detected on it")
    return problems


def _stream_problems(name: str, driver: str, stream: Mapping[str, Any]) -> tuple[list[str], StreamSpec | None]:
    """Problems of one stream, and its spec where it is known. Raises DeviceError, ValidationError."""
    cls = driver_class(driver)
    options = cls.Options.model_validate(stream.get("options", {}))
    kind = stream.get("kind")
    if "kind" in cls.Options.model_fields and "kind" not in options.model_fields_set:
        # The driver would take its default; the stream's own kind counts, if the driver knows it at all.
        try:
            options = cls.Options.model_validate({**stream.get("options", {}), "kind": kind})
        except ValidationError as error:
            first = error.errors()[0]
            return [f"streams.{name}.kind: {driver} does not deliver {kind!r}: {first['msg']}"], None
    try:
        spec = cls(name, options).spec
    except (DeviceError, ValueError):
        # A replay whose recording is not there yet: that is found when the stream is made.
        return [], None
    if isinstance(kind, str) and spec.kind != kind:
        where = "options.kind" if "kind" in options.model_fields_set else "driver"
        return [f"streams.{name}.kind: {kind!r}, but {driver} delivers {spec.kind!r} (streams.{name}.{where})"], None
    return [], spec


def reference_problems(config: "Config") -> list[str]:
    """Sections that name others which are not there, or that contradict each other."""
    problems = [problem for name in config.views if (problem := _view_problem(config, name))]
    kinds = {stream.kind for stream in config.streams.values()}
    if "welder" not in kinds:
        problems.append("streams: a stream of kind 'welder' is needed, arcs are detected on its current")
    for name, program in config.programs.items():
        problems += _program_problems(f"programs.{name}", program, config)
    problems += _calibration_problems(config)
    problems += _bridge_problems(config)
    default = config.cell.default_program
    if default is not None and default not in config.programs:
        problems.append(
            f"cell.default_program: no program {default!r}; known: {', '.join(config.programs) or 'none'}"
        )
    return problems


def _bridge_problems(config: "Config") -> list[str]:
    """Programs that a bridge should show and that the cell does not weld."""
    sections = {} if config.bridges is None else dict(config.bridges)
    return [
        f"bridges.{name}.programs: no program {program!r}; known: {', '.join(config.programs) or 'none'}"
        for name, section in sections.items()
        for program in getattr(section, "programs", None) or ()
        if program not in config.programs
    ]


def _calibration_problems(config: "Config") -> list[str]:
    """Calibrations that cannot be: of an unknown kind, or of what the cell does not have."""
    known: dict[str, Iterable[str]] = {"stream": config.streams, "view": config.views, "program": config.programs}
    problems = [
        f"calibration.max_age_days.{kind}: no such kind; known: {', '.join(sorted(KINDS))}"
        for kind in config.calibration.max_age_days
        if kind not in KINDS
    ]
    for name in config.calibration.required:
        kind, _, device = name.partition(":")
        if kind not in KINDS:
            problems.append(f"calibration.required: {name!r}: give KIND:DEVICE; kinds: {', '.join(sorted(KINDS))}")
        elif device not in (devices := known[KINDS[kind].device]):
            noun = KINDS[kind].device
            problems.append(f"calibration.required: {name!r}: no {noun} {device!r}; known: {', '.join(devices)}")
    return problems + [
        f"calibration.required: {item!r} is listed twice" for item in _twice(config.calibration.required)
    ]


def _program_problems(path: str, program: "ProgramConfig", config: "Config") -> list[str]:
    kinds = {stream.kind for stream in config.streams.values()}
    problems = [
        f"{path}.views: no view {view!r}; known: {', '.join(config.views) or 'none'}"
        for view in program.views
        if view not in config.views
    ]
    problems += [
        f"{path}.required: no stream of kind {kind!r} is configured"
        for kind in program.required
        if kind != "result" and kind not in kinds
    ]
    images = [view for view in program.views if view not in config.views or not config.views[view].is_scan]
    if "result" in (*program.required, *program.optional) and not images:
        listed = "required" if "result" in program.required else "optional"
        problems.append(f"{path}.{listed}: a result is listed but the program has no views, so none would ever come")
    lists = {"views": program.views, "required": program.required, "optional": program.optional}
    problems += [f"{path}.{name}: {item!r} is listed twice" for name in lists for item in _twice(lists[name])]
    problems += [
        f"{path}.optional: {kind!r} is required already; list it once"
        for kind in dict.fromkeys(program.optional)
        if kind in program.required
    ]
    problems += _scan_problems(path, program, config)
    problems += _limit_problems(path, program, kinds)
    if program.mode != "collecting" and program.model is None:
        problems.append(f"{path}.model: mode {program.mode!r} needs a model")
    return problems


def _limit_problems(path: str, program: "ProgramConfig", kinds: set[StreamKind]) -> list[str]:
    """Limits of what this cell can never measure: every seam would be INDETERMINATE(limit_unknown)."""
    if program.limits is None or "motion" in kinds:
        return []
    problems = []
    if program.limits.travel_speed_mm_s is not None:
        problems.append(f"{path}.limits.travel_speed_mm_s: nothing measures it; add a motion stream or leave it out")
    by_length = ("arc_energy_j_mm", "heat_input_kj_mm", "length_mm")
    asked = [name for name in by_length if getattr(program.limits, name) is not None]
    if asked and program.travel_speed_mm_s is None:
        problems.append(f"{path}.travel_speed_mm_s: missing; limits.{asked[0]} needs it, or a motion stream")
    return problems


def _view_problem(config: "Config", name: str) -> str | None:
    view = config.views[name]
    if view.stream not in config.streams:
        return f"views.{name}.stream: no stream {view.stream!r}; known: {', '.join(config.streams)}"
    kind = config.streams[view.stream].kind
    if kind not in ("video", "result", "profile"):
        return f"views.{name}.stream: {view.stream!r} is no camera and no laser profiler, but of kind {kind!r}"
    if kind == "profile" and view.scan_s is None:
        return f"views.{name}.scan_s: missing; say how many seconds a scan by {view.stream!r} takes"
    if kind != "profile" and view.scan_s is not None:
        return f"views.{name}.scan_s: {view.stream!r} is a camera; only views of profile streams take time"
    return None


def _scan_problems(path: str, program: "ProgramConfig", config: "Config") -> list[str]:
    """A program's scan: one height map a seam, complete before the deadline."""
    scans = [view for view in program.views if view in config.views and config.views[view].is_scan]
    problems = []
    if len(scans) > 1:
        problems.append(f"{path}.views: {', '.join(scans)} are scans; a seam has one height map, list one")
    has_profiler = any(stream.kind == "profile" for stream in config.streams.values())
    if not scans and ("profile" in program.optional or ("profile" in program.required and has_profiler)):
        problems.append(f"{path}.views: lists no scan, so no height map can belong to a seam; add one")
    for scan in scans:
        view = config.views[scan]
        takes_s = view.settle_ms / 1e3 + (view.scan_s or 0.0)
        if takes_s >= program.result_deadline_s:
            problems.append(
                f"{path}.result_deadline_s: {program.result_deadline_s:g} s after arc-off is too early: "
                f"{scan!r} alone takes {takes_s:g} s"
            )
    return problems


def _twice(items: Iterable[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]
