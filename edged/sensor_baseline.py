"""What the cell's own accepted seams taught of its sensors, and what the last seams differ from it.

A figure is learned per stream and program from the first `LEARNED` accepted seams (OK, OK in shadow, or complete
while collecting) and then stays: a reference that followed would drift along with the sensor. A change counts when
the median of the last `RECENT` seams, whatever their programs, lies beyond what chance allows: one odd weld is no
sensor's fault. Kept as JSON in the data directory, replaced as a whole after every seam; the part that judged a seam
goes into its recording, so a replay finds the same.
"""

import base64
import math
import zlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from edged.json_file import replace_json
from edged.sensor_report import Figure, Problem, SensorReport
from edged.sensor_video import STILL_PX, spot_share

__all__ = ["LEARNED", "RECENT", "SensorBaseline", "StreamBaseline"]

LEARNED = 20
RECENT = 5
STUDENT = 4.6
"""Two-sided 2·10⁻⁴ limit of Student's t with `LEARNED` − 1 degrees of freedom."""
MEDIAN_VARIANCE = math.pi / 2
"""Variance of a median of n normal values against that of their mean."""
BEYOND_CHANCE = STUDENT * math.sqrt(MEDIAN_VARIANCE / RECENT + 1 / LEARNED)
LEARNED_STILLS = 10
LEAST_SPOTS = 0.01
"""Spatter over less of the picture than a hundredth harms nobody."""
VERSION = 1

log = structlog.get_logger(__name__)

Image = NDArray[np.uint8]


def _is_still(text: str) -> str:
    _unpacked(text)
    return text


Still = Annotated[str, Field(max_length=4 * STILL_PX[0] * STILL_PX[1]), AfterValidator(_is_still)]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LearnedFigure(_Kept):
    """One figure of one program: the accepted seams' values, at most `LEARNED`."""

    values: Annotated[list[FiniteFloat], Field(max_length=LEARNED)] = []

    @property
    def is_complete(self) -> bool:
        """Whether it may judge."""
        return len(self.values) == LEARNED

    def scale(self, least: float) -> float:
        """Standard deviation, at least what makes a change of `least` just significant."""
        return max(float(np.std(self.values, ddof=1)), least / BEYOND_CHANCE)


class LearnedStill(_Kept):
    """Still pictures of one program's accepted seams; once there are enough, their median and most spots."""

    pictures: Annotated[list[Still], Field(max_length=LEARNED_STILLS)] = []
    reference: Still | None = None
    most_spots: FiniteFloat = 0.0


class StreamBaseline(_Kept):
    """All that is known of one stream. `figures` by program and name, `stills` by program."""

    figures: dict[str, dict[str, LearnedFigure]] = {}
    recent: dict[str, Annotated[list[FiniteFloat], Field(max_length=RECENT)]] = {}
    """Figure → changes of the last seams, oldest first, in standard deviations."""
    stills: dict[str, LearnedStill] = {}
    recent_stills: Annotated[list[tuple[str, Still]], Field(max_length=RECENT)] = []
    since_utc_ns: dict[str, int] = {}
    """Finding → arc-on of the first of the seams in a row that had it."""

    def of_program(self, program: str) -> "StreamBaseline":
        """What a seam of that program is judged by: a copy without what other programs taught, but for the stills."""
        programs = {program, *(name for name, _ in self.recent_stills)}
        stills = {name: still.model_copy(update={"pictures": []}) for name, still in self.stills.items()}
        return StreamBaseline(
            figures={program: self.figures.get(program, {})},
            recent=self.recent,
            stills={name: still for name, still in stills.items() if name in programs},
            recent_stills=self.recent_stills,
            since_utc_ns=self.since_utc_ns,
        ).model_copy(deep=True)

    def judge(self, program: str, report: SensorReport) -> list[Problem]:
        """Note the seam's changes, and what the last seams' tell."""
        found = []
        for name, figure in report.figures.items():
            learned = self.figures.get(program, {}).get(name)
            if learned is None or not learned.is_complete or not math.isfinite(figure.value):
                continue
            scale, usual = learned.scale(figure.least), float(np.mean(learned.values))
            self.recent[name] = [*self.recent.get(name, []), (figure.value - usual) / scale][-RECENT:]
            found += _changed(figure, usual, scale, self.recent[name])
        if report.still is not None and program in self.stills and self.stills[program].reference is not None:
            self.recent_stills = [*self.recent_stills, (program, _packed(report.still))][-RECENT:]
            found += self._spatter()
        return found

    def _spatter(self) -> list[Problem]:
        known = [(still, self.stills[name]) for name, still in self.recent_stills if name in self.stills]
        pairs = [(still, learned) for still, learned in known if learned.reference is not None]
        if len(pairs) < RECENT:
            return []
        share = spot_share([(_unpacked(still), _unpacked(learned.reference or "")) for still, learned in pairs])
        limit = max(LEAST_SPOTS, *(learned.most_spots for _, learned in pairs))
        if share <= limit:
            return []
        detail = f"dark spots that were not there before cover {share:.1%} of the picture, over {RECENT} seams"
        return [Problem("spatter", "warning", share, limit, "share", detail)]

    def learn(self, program: str, report: SensorReport) -> None:
        """Take an accepted seam, until there are enough."""
        figures = self.figures.setdefault(program, {})
        for name, figure in report.figures.items():
            learned = figures.setdefault(name, LearnedFigure())
            if not learned.is_complete and math.isfinite(figure.value):
                learned.values.append(figure.value)
        if report.still is not None:
            _learn_still(self.stills.setdefault(program, LearnedStill()), report.still)


class _File(_Kept):
    version: int = VERSION
    streams: dict[str, StreamBaseline] = {}


class SensorBaseline:
    """The baselines of a cell. `path`: where they are kept; None keeps them in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.error: str | None = None
        """Why the file cannot be read or written, for health; None while it can."""
        self.streams: dict[str, StreamBaseline] = {}
        if path is not None and path.exists():
            try:
                self.streams = _File.model_validate_json(path.read_bytes()).streams
            except (OSError, ValidationError) as error:
                self.error = f"{path} cannot be read, sensors are learned anew: {str(error).splitlines()[0]}"
                log.warning("sensor baseline", error=self.error)

    @classmethod
    def of_recording(cls, snapshot: Any) -> "SensorBaseline":
        """What judged a recorded seam; empty where the recording has nothing or nothing that fits."""
        baseline = cls()
        try:
            baseline.streams = _File.model_validate(snapshot or {}).streams
        except ValidationError as error:
            log.warning("sensor baseline of the recording", error=str(error).splitlines()[0])
        return baseline

    def snapshot(self, program: str, streams: list[str]) -> dict[str, Any]:
        """What judges a seam of `program` with these streams: JSON-ready."""
        known = {name: self.streams[name].of_program(program) for name in streams if name in self.streams}
        return _File(streams=known).model_dump(mode="json")

    def stream(self, name: str) -> StreamBaseline:
        """The stream's baseline, made when it is the first time."""
        return self.streams.setdefault(name, StreamBaseline())

    def save(self) -> None:
        """Replace the file. A disk that refuses is told in `error` and stops nobody."""
        if self.path is None:
            return
        try:
            replace_json(self.path, _File(streams=self.streams).model_dump(mode="json"))
            self.error = None
        except OSError as error:
            self.error = f"{self.path} cannot be written: {error.strerror}; sensor baselines are kept in memory"


def _changed(figure: Figure, usual: float, scale: float, recent: list[float]) -> list[Problem]:
    if len(recent) < RECENT:
        return []
    change, limit = float(np.median(recent)) * scale, BEYOND_CHANCE * scale
    if (change if figure.rises_only else abs(change)) <= limit:
        return []
    detail = f"{figure.detail}: over the last {RECENT} seams {change:+.2g} {figure.unit} against the accepted ones"
    return [Problem(figure.code, "warning", change, math.copysign(limit, change), figure.unit, detail)]


def _learn_still(learned: LearnedStill, still: Image) -> None:
    if learned.reference is not None:
        return
    learned.pictures.append(_packed(still))
    if len(learned.pictures) < LEARNED_STILLS:
        return
    pictures = np.stack([_unpacked(picture) for picture in learned.pictures])
    learned.reference = _packed(np.median(pictures, axis=0).astype(np.uint8))
    shares = []
    for k, picture in enumerate(pictures):
        others = np.median(np.delete(pictures, k, axis=0), axis=0).astype(np.uint8)
        shares.append(spot_share([(picture, others)]))
    learned.most_spots, learned.pictures = max(shares), []


def _packed(image: Image) -> str:
    return base64.b64encode(zlib.compress(image.tobytes(), 6)).decode()


def _unpacked(text: str) -> Image:
    """Raises ValueError where it is no still picture."""
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text), STILL_PX[0] * STILL_PX[1] + 1)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"a still picture of {len(text)} characters cannot be unpacked: {error}") from error
    if len(data) != STILL_PX[0] * STILL_PX[1]:
        raise ValueError(f"a still picture has {len(data)} pixels, {STILL_PX[0]} × {STILL_PX[1]} are needed")
    return np.frombuffer(data, np.uint8).reshape(STILL_PX[1], STILL_PX[0])
