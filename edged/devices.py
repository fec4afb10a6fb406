"""`edged devices`: what is plugged in, as config sections to paste. Opens no device, stands beside the data path."""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
from rich.console import Console

from drivers.base import StreamKind

__all__ = ["Found", "cameras", "devices", "find_devices", "microphones", "serial_ports", "snippet"]


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A device that could become a stream: `[streams.NAME]` with `driver`, `kind` and `options`."""

    name: str
    description: str
    driver: str
    kind: StreamKind
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """What a search for one sort of device gave; `problem` is the sentence that says why there is nothing."""

    found: tuple[Found, ...]
    problem: str | None = None


def serial_ports() -> Search:
    """Serial ports by pyserial, named by their stable link in /dev/serial/by-id where there is one."""
    from serial.tools import list_ports

    stable = _links(Path("/dev/serial/by-id"))
    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    found = [
        Found(
            name="welder",
            description=f"{port.device}: {port.description}",
            driver="welder.serial",
            kind="welder",
            options={"port": stable.get(port.device, port.device), "baud": 921_600, "rate_hz": 10_000},
        )
        for port in ports
    ]
    return _search(found, "No serial port: plug the ADC board in; if it stays invisible, look at `dmesg`.")


def microphones() -> Search:
    """Inputs by PortAudio."""
    try:
        import sounddevice
    except OSError as error:
        return Search((), f"No microphones: {error}; install PortAudio with `apt-get install libportaudio2`.")
    try:
        listed: Iterable[dict[str, Any]] = sounddevice.query_devices()
    except sounddevice.PortAudioError as error:
        return Search((), f"No microphones: PortAudio says {error}; check the sound card with `arecord -l`.")
    found = [
        Found(
            name="sound",
            description=f"{device['name']}, up to {device['max_input_channels']} channels",
            driver="microphone.portaudio",
            kind="audio",
            options={"device": device["name"], "rate_hz": round(device["default_samplerate"]), "channels": 1},
        )
        for device in listed
        if device["max_input_channels"] > 0
    ]
    return _search(found, "No microphone: PortAudio sees no input; check the sound card with `arecord -l`.")


def cameras(dev: Path = Path("/dev"), sys_class: Path = Path("/sys/class/video4linux")) -> Search:
    """Video4Linux nodes, named by /sys. Nodes with an index above 0 (a camera's metadata) are left out."""
    stable = _links(dev / "v4l" / "by-id")
    found = []
    for node in sorted(dev.glob("video*"), key=lambda path: [int(n) for n in re.findall(r"\d+$", path.name)]):
        about = sys_class / node.name
        if _text(about / "index") not in ("0", None):
            continue
        found.append(
            Found(
                name="arc_camera",
                description=f"{node}: {_text(about / 'name') or 'unnamed'}",
                driver="camera.opencv",
                kind="video",
                options={"source": stable.get(str(node), str(node)), "rate_hz": 30.0},
            )
        )
    return _search(
        found, "No camera: there is no /dev/video*; network cameras are not searched, give their URL as source."
    )


def find_devices() -> dict[str, Search]:
    """All searches; stream names are numbered so that the snippets can be pasted into one file."""
    searches = {"serial": serial_ports(), "microphones": microphones(), "cameras": cameras()}
    return {sort: dataclasses.replace(search, found=_numbered(search.found)) for sort, search in searches.items()}


def snippet(found: Found) -> str:
    """The device's config section, TOML."""
    section = {"driver": found.driver, "kind": found.kind, "options": found.options}
    about = " ".join(found.description.split())
    return f"# {about}\n{tomli_w.dumps({'streams': {found.name: section}})}"


def devices(
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the list to this file.")] = None,
) -> None:
    """List serial ports, microphones and cameras as config sections to paste."""
    console = Console()
    searches = find_devices()
    for search in searches.values():
        for found in search.found:
            # Not wrapped, cut or styled: it is there to be pasted.
            console.print(snippet(found), markup=False, highlight=False, soft_wrap=True)
        if search.problem is not None:
            console.print(f"# {search.problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if json_path is not None:
        report = {
            sort: {"found": [{**dataclasses.asdict(f), "config": snippet(f)} for f in s.found], "problem": s.problem}
            for sort, s in searches.items()
        }
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _search(found: list[Found], problem: str) -> Search:
    return Search(tuple(found), None if found else problem)


def _numbered(found: tuple[Found, ...]) -> tuple[Found, ...]:
    return tuple(
        device if index == 0 else dataclasses.replace(device, name=f"{device.name}_{index + 1}")
        for index, device in enumerate(found)
    )


def _links(folder: Path) -> dict[str, str]:
    """Device node → stable link that leads to it."""
    return {str(link.resolve()): str(link) for link in sorted(folder.glob("*"), reverse=True)}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
