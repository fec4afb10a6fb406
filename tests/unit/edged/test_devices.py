"""`edged devices`: found devices are config sections that validate, missing ones are one sentence."""

import json
import tomllib
from pathlib import Path

import pytest
import sounddevice
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from typer.testing import CliRunner

from drivers.table import create_driver
from edged import devices
from edged.cli import app


def v4l_tree(root: Path) -> tuple[Path, Path]:
    """Two cameras as Linux shows them; the first has a second node for metadata and a stable link."""
    dev, sys_class = root / "dev", root / "sys"
    for node, name, index in [("video0", "Arc\ncam", "0"), ("video1", "Arc cam", "1"), ("video10", "View cam", "0")]:
        (sys_class / node).mkdir(parents=True)
        (sys_class / node / "name").write_text(name + "\n")
        (sys_class / node / "index").write_text(index + "\n")
        dev.mkdir(exist_ok=True)
        (dev / node).touch()
    (dev / "v4l" / "by-id").mkdir(parents=True)
    (dev / "v4l" / "by-id" / "usb-arc-index0").symlink_to(dev / "video0")
    return dev, sys_class


def test_cameras_have_names_and_stable_paths_and_metadata_nodes_are_left_out(tmp_path: Path) -> None:
    dev, sys_class = v4l_tree(tmp_path)
    found = devices.cameras(dev, sys_class).found
    assert [device.options["source"] for device in found] == [
        str(dev / "v4l/by-id/usb-arc-index0"),
        str(dev / "video10"),
    ]
    assert "View cam" in found[1].description


def test_serial_ports_become_sections_that_the_driver_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        ListPortInfo("/dev/ttyUSB1", skip_link_detection=True),
        ListPortInfo("/dev/ttyACM0", skip_link_detection=True),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    found = devices.find_devices()["serial"].found
    assert [device.name for device in found] == ["welder", "welder_2"]
    sections = tomllib.loads("\n".join(devices.snippet(device) for device in found))["streams"]
    for name, section in sections.items():
        spec = create_driver(section["driver"], name, section["options"]).spec
        assert spec.kind == section["kind"]


def test_microphones_are_inputs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        {"name": 'mic "A"', "max_input_channels": 2, "default_samplerate": 44_100.0},
        {"name": "loudspeaker", "max_input_channels": 0, "default_samplerate": 48_000.0},
    ]
    monkeypatch.setattr(sounddevice, "query_devices", lambda: listed)
    (found,) = devices.microphones().found
    assert tomllib.loads(devices.snippet(found))["streams"]["sound"]["options"]["device"] == 'mic "A"'


def test_nothing_plugged_in_is_one_clear_sentence_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    monkeypatch.setattr(sounddevice, "query_devices", list)
    for search in (devices.serial_ports(), devices.microphones(), devices.cameras(tmp_path, tmp_path)):
        assert search.found == ()
        assert search.problem is not None
        assert search.problem.endswith(".")


def test_the_verb_writes_json_and_prints_toml(tmp_path: Path) -> None:
    report = tmp_path / "devices.json"
    result = CliRunner().invoke(app, ["devices", "--json", str(report)])
    assert result.exit_code == 0, result.output
    tomllib.loads(result.output)
    found = json.loads(report.read_text())
    assert set(found) == {"serial", "microphones", "cameras"}
    assert all((sort["problem"] is None) == bool(sort["found"]) for sort in found.values())
