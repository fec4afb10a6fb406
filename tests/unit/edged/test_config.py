"""Configurations with something wrong in them: what is said, where, and that all of it is said at once."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from edged.cli import app
from edged.config import ConfigError, parse_config

GOOD: dict[str, Any] = {
    "cell": {"default_program": "T1"},
    "streams": {
        "welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/ttyUSB0"}},
        "robot": {"driver": "motion.csv_serial", "kind": "motion", "options": {"port": "/dev/ttyUSB1"}},
        "mic": {"driver": "microphone.portaudio", "kind": "audio", "options": {}},
        "photo": {
            "driver": "camera.opencv",
            "kind": "result",
            "options": {"source": "/dev/video0", "kind": "result"},
        },
    },
    "views": {"top": {"stream": "photo"}},
    "programs": {"T1": {"required": ["welder", "result"], "optional": ["audio"], "views": ["top"]}},
}


def _changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """GOOD with a few entries replaced, two levels deep."""
    raw = copy.deepcopy(GOOD)
    for section, entries in sections.items():
        for name, values in entries.items():
            raw[section][name] = {**raw[section].get(name, {}), **values} if isinstance(values, dict) else values
    return raw


def _problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    return caught.value.problems


def test_a_good_config_has_no_problem() -> None:
    assert parse_config(GOOD).streams["robot"].kind == "motion"


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"streams": {"mic": {"kind": "welder"}}}, "streams.mic.kind: 'welder', but microphone.portaudio delivers"),
        ({"streams": {"robot": {"kind": "audio"}}}, "streams.robot.kind: motion.csv_serial does not deliver 'audio'"),
        (
            {"streams": {"photo": {"kind": "video"}}},
            "'video', but camera.opencv delivers 'result' (streams.photo",
        ),
        ({"programs": {"T1": {"required": ["welder", "welder"]}}}, "programs.T1.required: 'welder' is listed twice"),
        ({"programs": {"T1": {"optional": ["audio", "audio"]}}}, "programs.T1.optional: 'audio' is listed twice"),
        ({"programs": {"T1": {"optional": ["welder"]}}}, "programs.T1.optional: 'welder' is required already"),
        ({"programs": {"T1": {"views": ["top", "top"]}}}, "programs.T1.views: 'top' is listed twice"),
        (
            {"programs": {"T1": {"views": []}}},
            "required: a result is listed but the program has no views",
        ),
        ({"programs": {"T1": {"views": ["top", "side"]}}}, "programs.T1.views: no view 'side'; known: top"),
        ({"programs": {"T1": {"required": ["profile"]}}}, "programs.T1.required: no stream of kind 'profile'"),
        ({"programs": {"T1": {"mode": "armed"}}}, "programs.T1.model: mode 'armed' needs a model"),
        ({"views": {"top": {"stream": "fotos"}}}, "views.top.stream: no stream 'fotos'; known: welder"),
        ({"views": {"top": {"stream": "mic"}}}, "views.top.stream: 'mic' is no camera"),
        ({"cell": {"default_program": "T9"}}, "cell.default_program: no program 'T9'; known: T1"),
        ({"streams": {"mic": {"options": {"divice": 1}}}}, "streams.mic.options.divice: unknown key"),
    ],
)
def test_one_problem_is_said_with_its_path(sections: dict[str, Any], problem: str) -> None:
    found = _problems(_changed(**sections))
    assert len(found) == 1, found
    assert problem in found[0]


def test_a_welder_without_current_sees_no_arc() -> None:
    options = {
        "path": "x.csv", "rate_hz": 100, "columns": ["U"], "channels": ["voltage"], "units": ["V"],
    }  # fmt: skip
    raw = copy.deepcopy(GOOD)
    raw["streams"]["welder"] = {"driver": "welder.file", "kind": "welder", "options": options}
    assert [line for line in _problems(raw) if "no welder stream has a channel 'current'" in line]


def test_wrong_keys_do_not_hide_what_is_wrong_elsewhere(tmp_path: Path) -> None:
    raw = _changed(
        cell={"colour": "red", "default_program": "T9"},
        streams={"mic": {"kind": "motion"}, "robot": {"max_gap_ms": -1.0}},
        programs={"T1": {"optional": ["welder"], "merge_gap_s": "long"}, "T2": {"model": str(tmp_path / "none")}},
    )
    path = tmp_path / "edged.toml"
    path.write_text(tomli_w.dumps(raw))
    done = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert done.exit_code == 2
    for problem in (
        "7 problem(s)",
        "cell.colour: unknown key",
        "cell.default_program: no program 'T9'",
        "streams.mic.kind: 'motion', but microphone.portaudio delivers 'audio'",
        "streams.robot.max_gap_ms: Input should be greater than 0 (got -1.0)",
        "programs.T1.merge_gap_s: Input should be a valid number",
        "programs.T1.optional: 'welder' is required already",
        "programs.T2.model:",
    ):
        assert problem in done.output, problem


def test_a_section_that_cannot_stand_without_its_key_is_still_reported() -> None:
    found = _problems({"streams": {"welder": {"driver": "nonsense"}, "x": 3}, "cell": {"colour": 1}})
    assert "streams.welder.kind: Field required" in found
    assert "cell.colour: unknown key" in found
    assert any(line.startswith("streams.welder.driver: no driver 'nonsense'") for line in found)
    assert any(line.startswith("streams.x: ") for line in found)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1",
        "tcp://:5560",
        "tcp://a b:5560",
        "udp://127.0.0.1:5560",
        "ipc://",
        "inproc://x",
    ],
)
def test_only_places_where_a_socket_can_be_bound(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="is no endpoint"):
        parse_config({**GOOD, "net": {"control": endpoint}})


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5570", "tcp://*:5570", "tcp://[::]:5570", "ipc:///run/x"])
def test_where_the_control_socket_may_be(endpoint: str) -> None:
    assert parse_config({**GOOD, "net": {"control": endpoint}}).control_endpoint == endpoint


def test_the_error_of_another_process_says_the_same() -> None:
    error = ConfigError("cell.toml", ["arc.hold_ms: too long", "views.top: no stream"])
    copied = copy.copy(error)  # as a pool of processes takes it apart and together
    assert (str(copied), copied.problems) == (str(error), error.problems)


FRAME = {"length_mm": 52.0, "lag_mm": 3.5, "views": {"top": [-5.0, 57.0, -10.0, 10.0]}, "scan": [-4.0, 0.25, 12.0]}


def test_a_program_may_say_where_its_results_lie() -> None:
    config = parse_config(_changed(programs={"T1": {"frame": FRAME}}), "test")
    frame = config.programs["T1"].frame
    assert frame is not None
    assert (frame.length_mm, frame.lag_mm, frame.scan) == (52.0, 3.5, (-4.0, 0.25, 12.0))
    assert frame.views == {"top": (-5.0, 57.0, -10.0, 10.0)}
    assert "frame" in config.programs["T1"].model_dump()
    assert parse_config(config.model_dump(mode="json"), "again") == config
    # A program without one is written as before there were any, so that its digest stays.
    assert "frame" not in parse_config(GOOD, "test").programs["T1"].model_dump()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length_mm": 0}, "length_mm"),
        ({"length_mm": float("nan")}, "length_mm"),
        ({"lag_mm": -1.0}, "lag_mm"),
        ({"views": {"top": [57.0, -5.0, -10.0, 10.0]}}, "views.top: .* is no area; give along from, along to"),
        ({"views": {"top": [-5.0, 57.0, 10.0, 10.0]}}, "views.top: .* is no area"),
        ({"views": {"top": [float("nan"), 57.0, -10.0, 10.0]}}, "views.top.0"),
        ({"views": {"top": [0.0, 57.0, -10.0]}}, "views.top"),
        ({"scan": [0.0, -0.25, 12.0]}, "scan"),
        ({"scan": [float("inf"), 0.25, 12.0]}, "scan.0"),
        ({"wide": 3.0}, "wide"),
    ],
)
def test_a_frame_that_is_none_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        parse_config(_changed(programs={"T1": {"frame": {**FRAME, **changes}}}), "test")
    assert all(problem.startswith("programs.T1.frame") for problem in error.value.problems)


@pytest.mark.parametrize(
    ("stream", "values", "says"),
    [
        ("robot", {"distance_m": 0.3}, "only a microphone has one"),
        ("photo", {"readout_ms": 12.0, "exposure_ms": 6.0}, "readout_ms 12 is part of exposure_ms, which is 6"),
        ("mic", {"max_drift_ppm": 0.0}, "max_drift_ppm"),
    ],
)
def test_delays_that_cannot_be(stream: str, values: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in _problems(_changed(streams={stream: values})))


def test_the_journal_socket_stands_beside_the_verdicts_and_changes_no_id() -> None:
    plain = parse_config(GOOD)
    assert plain.net.journal_endpoint == "tcp://127.0.0.1:5561"
    assert json.loads(plain.net.model_dump_json()) == {"verdicts": "tcp://127.0.0.1:5560", "control": None}
    said = parse_config(GOOD | {"net": {"journal": None, "acknowledge": [], "acknowledge_within_s": 60.0}})
    assert said.config_id == plain.config_id
    other = parse_config(GOOD | {"net": {"journal": "ipc:///run/j.sock", "acknowledge": ["press-plc"]}})
    assert other.net.journal_endpoint == "ipc:///run/j.sock"
    assert other.config_id != plain.config_id


def test_a_control_socket_from_before_the_journal_socket_keeps_its_place() -> None:
    for control in ("tcp://127.0.0.1:5561", "tcp://*:5561"):
        net = parse_config(GOOD | {"net": {"control": control}}).net
        assert (net.control, net.journal_endpoint) == (control, "tcp://127.0.0.1:5562")
    net = parse_config(GOOD | {"net": {"control": "tcp://10.0.0.5:5561"}}).net
    assert net.journal_endpoint == "tcp://127.0.0.1:5561"


@pytest.mark.parametrize(
    ("net", "says"),
    [
        ({"journal": "tcp://10.0.0.5:port"}, "is no endpoint"),
        ({"verdicts": "tcp://127.0.0.1:65535"}, "port 65535 has none above it"),
        ({"control": "tcp://*:7", "journal": "tcp://127.0.0.1:7"}, "taken by net.control; give net.journal"),
        ({"journal": "tcp://127.0.0.1:5560"}, "taken by net.verdicts; give net.journal"),
        ({"acknowledge": [""]}, "net.acknowledge.0"),
        ({"acknowledge_within_s": 0}, "net.acknowledge_within_s"),
    ],
)
def test_journal_sockets_that_cannot_be(net: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in _problems(GOOD | {"net": net}))


def test_sound_in_air_adds_to_the_latency_and_defaults_do_not_change_the_id() -> None:
    plain = parse_config(GOOD)
    explicit = {"air_c": 20.0, "max_drift_ppm": 200.0, "follow_strikes": False, "readout_ms": 0.0}
    assert parse_config(_changed(streams={"mic": explicit})).config_id == plain.config_id
    far = parse_config(_changed(streams={"mic": {"distance_m": 1.0, "latency_ms": 5.0}}))
    assert far.config_id != plain.config_id
    assert far.streams["mic"].delay_ns == pytest.approx(7_914_000, abs=5_000)
    assert plain.streams["mic"].delay_ns == 0
