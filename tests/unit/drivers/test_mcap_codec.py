"""Recordings give back exactly what was put in, to edged and to anybody with the plain mcap package."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from hypothesis import HealthCheck, given, settings
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import ControlEvent, RecordingError, RecordingHeader, RecordingReader, RecordingWriter

SPECS = (
    StreamSpec("welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wfs"), ("A", "V", "m/min"),
               (0.1, 0.01, 1 / 3), (0.0, -0.5, 1e-17), torch="t1"),
    StreamSpec("mic", "audio", 48_000.0, (2,), "int16", ("left", "right")),
    StreamSpec("mic32", "audio", 16_000.0, (1,), "float32"),
    StreamSpec("arc", "video", 29.97, (0, 0), "uint8", tick="arrival"),
    StreamSpec("views", "result", 1.0, (320, 960), "uint8"),
    StreamSpec("robot", "motion", 100.0, (3,), "float32", ("speed", "position", "gas")),
    StreamSpec("laser", "profile", 200.0, (5,), "float64"),
)  # fmt: skip
HEADER = RecordingHeader("b00t", 5_000_000_000, 1_700_000_000_123_456_789, "0.1.0", True, "cell 7", "cal-1")
BY_NAME = {spec.name: spec for spec in SPECS}
INT64 = st.integers(0, 2**62)


def make_chunk(name: str, seq: int = 0, n: int = 4, t_ns: int = 6_000_000_000, seed: int = 0) -> Chunk:
    spec = BY_NAME[name]
    random = np.random.default_rng(seed)
    if spec.encoded:
        data = random.integers(0, 256, n, np.uint8)
    else:
        raw = random.bytes(n * int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize)
        data = np.frombuffer(raw, spec.dtype).reshape(n, *spec.shape)
    clock = ClockParams(100, t_ns, 1e9 / 10_000.37, 33.125)
    return Chunk(name, seq, 100 + seq * n, t_ns + 7, 3, data, clock)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    counter0 = draw(INT64)
    clock = ClockParams(
        counter0,
        draw(st.integers(0, 10**18)),
        draw(st.floats(1.0, 1e10)),
        draw(st.floats(allow_nan=False)),
    )
    bare = make_chunk(draw(st.sampled_from(sorted(BY_NAME))), n=draw(st.integers(0, 50)), seed=draw(INT64))
    return dataclasses.replace(
        bare,
        seq=draw(INT64),
        counter=counter0 + draw(st.integers(0, 10**6)),
        arrival_ns=draw(st.integers(0, 10**18)),
        lost_before=draw(INT64),
        clock=clock,
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
controls = st.builds(
    ControlEvent, st.integers(0, 10**18), st.dictionaries(st.text(), json_values, max_size=4)
)  # fmt: skip


def record(path: Path, events: Sequence[Chunk | ControlEvent]) -> RecordingWriter:
    writer = RecordingWriter(path, SPECS, HEADER)
    for event in events:
        if isinstance(event, Chunk):
            writer.chunk(event)
        else:
            writer.control(event.t_ns, event.message)
    return writer


def assert_same(got: Chunk | ControlEvent, put: Chunk | ControlEvent) -> None:
    if isinstance(put, ControlEvent) or isinstance(got, ControlEvent):
        assert got == put
        return
    for field in ("stream", "seq", "counter", "arrival_ns", "lost_before", "clock"):
        assert getattr(got, field) == getattr(put, field), field
    assert got.data.dtype == put.data.dtype
    assert got.data.shape == put.data.shape
    assert got.data.tobytes() == put.data.tobytes()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(chunks() | controls, max_size=12), sync_after=st.sets(st.integers(0, 11)))
def test_everything_comes_back_in_order_and_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, events: list[Chunk | ControlEvent], sync_after: set[int]
) -> None:
    path = tmp_path_factory.mktemp("rec") / "s.mcap"
    writer = RecordingWriter(path, SPECS, HEADER)
    for index, event in enumerate(events):
        if isinstance(event, Chunk):
            writer.chunk(event)
        else:
            writer.control(event.t_ns, event.message)
        if index in sync_after:
            writer.sync()
    writer.finish()
    assert writer.bytes_written == path.stat().st_size

    reader = RecordingReader(path)
    assert reader.header == HEADER
    assert reader.specs == SPECS
    got = list(reader.events())
    assert len(got) == len(events)
    for one, other in zip(got, events, strict=True):
        assert_same(one, other)


def test_selected_streams_come_without_the_others_and_without_control(tmp_path: Path) -> None:
    events: list[Chunk | ControlEvent] = [
        make_chunk("welder"),
        ControlEvent(6_000_000_001, {"op": "expect"}),
        make_chunk("arc"),
        make_chunk("mic"),
    ]
    record(tmp_path / "s.mcap", events).finish()
    got = list(RecordingReader(tmp_path / "s.mcap").events(streams=["arc", "welder"]))
    assert [chunk.stream for chunk in got if isinstance(chunk, Chunk)] == ["welder", "arc"]
    assert len(got) == 2
    with pytest.raises(RecordingError, match=r"no stream \['nope'\]; it has welder, mic"):
        list(RecordingReader(tmp_path / "s.mcap").events(streams=["nope"]))


def test_plain_mcap_and_foxglove_schemas_read_it(tmp_path: Path) -> None:
    put = {name: make_chunk(name) for name in BY_NAME}
    writer = record(
        tmp_path / "s.mcap", [*put.values(), ControlEvent(6_000_000_005, {"op": "expect", "program": "P1"})]
    )
    writer.metadata("seam", {"seam_id": "01X", "arcs": [[1, 2]]})
    writer.finish()
    with (tmp_path / "s.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        assert summary is not None
        channels = {channel.topic: channel for channel in summary.channels.values()}
        schema_of = {topic: summary.schemas[channel.schema_id].name for topic, channel in channels.items()}
        raw = {channel.topic: message for _, channel, message in reader.iter_messages()}
        decoded = {
            item.channel.topic: item.decoded_message
            for item in reader.iter_decoded_messages(topics=[topic for topic in raw if topic != "/edged/control"])
        }
        metadata = {item.name: item.metadata for item in reader.iter_metadata()}

    assert schema_of["/arc"] == schema_of["/views"] == "foxglove.CompressedImage"
    assert schema_of["/mic"] == "foxglove.RawAudio"
    assert {schema_of[f"/{name}"] for name in ("welder", "robot", "laser", "mic32")} == {"edged.Samples"}
    assert CompressedImage.FromString(raw["/arc"].data).data == put["arc"].data.tobytes()
    sound = RawAudio.FromString(raw["/mic"].data)
    assert (sound.format, sound.sample_rate, sound.number_of_channels) == ("pcm-s16", 48_000, 2)
    assert sound.data == put["mic"].data.tobytes()

    welder = decoded["/welder"]
    assert (
        np.frombuffer(welder.data, welder.dtype).reshape(list(welder.shape)).tolist() == put["welder"].data.tolist()
    )
    assert list(welder.scale) == list(BY_NAME["welder"].scale)
    assert list(welder.units) == ["A", "V", "m/min"]
    utc_ns = HEADER.utc_ns + put["welder"].t_ns - HEADER.monotonic_ns
    assert raw["/welder"].log_time == utc_ns
    assert welder.timestamp.seconds * 10**9 + welder.timestamp.nanos == utc_ns
    assert decoded["/welder/meta"].lost_before == 3
    control = json.loads(raw["/edged/control"].data)
    assert control == {"t_ns": 6_000_000_005, "message": {"op": "expect", "program": "P1"}}
    assert json.loads(metadata["seam"]["arcs"]) == [[1, 2]]


def test_of_two_metadata_records_the_last_counts(tmp_path: Path) -> None:
    writer = record(tmp_path / "s.mcap", [make_chunk("mic")])
    writer.metadata("seam", {"arcs": []})
    writer.metadata("seam", {"arcs": [[1, 2]], "part_id": None})
    writer.finish()
    reader = RecordingReader(tmp_path / "s.mcap")
    assert reader.metadata("seam") == {"arcs": [[1, 2]], "part_id": None}
    assert reader.metadata("verdict") is None


def test_what_cannot_be_written_is_refused_with_numbers(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "s.open", SPECS, HEADER)
    good = make_chunk("welder")
    with pytest.raises(RecordingError, match="stream 'x' was not announced; known: welder"):
        writer.chunk(dataclasses.replace(good, stream="x"))
    with pytest.raises(RecordingError, match="data is float32, the spec says int16"):
        writer.chunk(dataclasses.replace(good, data=good.data.astype(np.float32)))
    with pytest.raises(RecordingError, match=r"data is \(4, 2\), the spec says \(n, 3\)"):
        writer.chunk(dataclasses.replace(good, data=good.data[:, :2]))
    with pytest.raises(ValueError, match="not been stamped"):
        writer.chunk(dataclasses.replace(good, clock=None))
    with pytest.raises(RecordingError, match="cannot be written as JSON"):
        writer.control(6_000_000_000, {"op": b"bytes"})
    with pytest.raises(RecordingError, match="cannot be written as JSON"):
        writer.metadata("verdict", {"score": float("nan")})
    assert good.clock is not None
    with pytest.raises(RecordingError, match="the pair must be of this boot"):
        writer.chunk(dataclasses.replace(good, clock=dataclasses.replace(good.clock, t0_ns=-(2**62))))
    writer.chunk(good)
    writer.finish()
    with pytest.raises(RecordingError, match="is finished after"):
        writer.chunk(good)
    assert len(list(RecordingReader(tmp_path / "s.open").events())) == 1


def test_a_stream_name_that_would_clash_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="stream name 'mic/meta' must not contain '/'"):
        RecordingWriter(tmp_path / "s.open", [dataclasses.replace(SPECS[1], name="mic/meta")], HEADER)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    record(tmp_path / "s.mcap", [make_chunk("mic")]).finish()
    before = (tmp_path / "s.mcap").read_bytes()
    with pytest.raises(RecordingError, match="never overwritten"):
        RecordingWriter(tmp_path / "s.mcap", SPECS, HEADER)
    assert (tmp_path / "s.mcap").read_bytes() == before


def test_no_flipped_byte_changes_a_stream_or_its_data_unnoticed(tmp_path: Path) -> None:
    view = ControlEvent(6_000_000_000, {"op": "view"})
    put: list[Chunk | ControlEvent] = [make_chunk("welder", n=40), make_chunk("arc", n=900), view]
    record(tmp_path / "s.mcap", put).finish()
    blob = (tmp_path / "s.mcap").read_bytes()
    noticed = 0
    for at in range(0, len(blob), 7):
        (tmp_path / "bad.mcap").write_bytes(blob[:at] + bytes([blob[at] ^ 0x10]) + blob[at + 1 :])
        try:
            reader = RecordingReader(tmp_path / "bad.mcap")
            got = list(reader.events())
        except RecordingError:
            noticed += 1
            continue
        assert reader.specs == SPECS, f"byte {at}"
        for one, other in zip(got, put, strict=True):
            assert_same(one, other)
    assert noticed > len(blob) / 7 * 0.9


def test_foreign_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none\.mcap: cannot be read: No such file"):
        RecordingReader(tmp_path / "none.mcap")
    (tmp_path / "text.mcap").write_text("hello")
    with pytest.raises(RecordingError, match="its 5 bytes do not end in the MCAP mark"):
        RecordingReader(tmp_path / "text.mcap")
    record(tmp_path / "s.mcap", [make_chunk("welder", n=5000, seed=1)]).finish()
    blob = bytearray((tmp_path / "s.mcap").read_bytes())
    blob[len(blob) // 2] ^= 0xFF
    (tmp_path / "bad.mcap").write_bytes(blob)
    with pytest.raises(RecordingError, match=r"bad\.mcap: damaged before byte \d+ of \d+ bytes .*edged recover"):
        list(RecordingReader(tmp_path / "bad.mcap").events())
