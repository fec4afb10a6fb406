"""What a crash leaves of a recording comes back: every message whose MCAP chunk was complete, and no other."""

from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import RecordingError, RecordingHeader, RecordingReader, RecordingWriter, recover_recording

SPECS = (
    StreamSpec("welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wfs")),
    StreamSpec("arc", "video", 30.0, (0, 0), "uint8"),
)
HEADER = RecordingHeader("boot", 0, 1_700_000_000_000_000_000, "0.1.0", False, "cell")
CLOCK = ClockParams(0, 10**9, 1e5)
SYNCS = 5


def item(seq: int) -> Chunk:
    random = np.random.default_rng(seq)
    if seq % 2:
        return Chunk("arc", seq, seq, 10**9 + seq, 0, random.integers(0, 256, 60, np.uint8), CLOCK)
    return Chunk("welder", seq, seq * 20, 10**9 + seq, 0, random.integers(-9, 9, (20, 3), np.int16), CLOCK)


def write_syncs(path: Path) -> list[int]:
    """Five syncs of four chunks each and one control; returns the file's size after each sync."""
    writer = RecordingWriter(path, SPECS, HEADER)
    writer.metadata("seam", {"seam_id": "S"})
    sizes = []
    for sync in range(SYNCS):
        for seq in range(sync * 4, sync * 4 + 4):
            writer.chunk(item(seq))
        writer.control(10**9, {"op": "view", "n": sync})
        writer.sync()
        sizes.append(writer.bytes_written)
    writer.finish()
    return sizes


def first_bytes(folder: Path) -> int:
    """Size of a recording that was only begun: its header."""
    writer = RecordingWriter(folder / "begun.mcap", SPECS, HEADER)
    writer.close()
    return writer.bytes_written


def test_truncated_anywhere_every_synced_message_is_kept(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mcap"
    sizes = write_syncs(whole)
    blob = whole.read_bytes()
    assert len(blob) > sizes[-1] > 2000
    header_end = first_bytes(tmp_path)
    cuts = sorted(
        {
            *range(0, len(blob), 37),
            header_end - 1,
            header_end,
            *sizes,
            *(size - 1 for size in sizes),
            *(size + 1 for size in sizes),
        }
    )
    for cut in cuts:
        broken = tmp_path / "S.open"
        broken.write_bytes(blob[:cut])
        if cut < header_end:
            with pytest.raises(RecordingError, match=rf"nothing to recover: its {cut} bytes do not begin"):
                recover_recording(broken)
            continue
        path = recover_recording(broken)
        assert path == tmp_path / "S.mcap"
        assert not broken.exists()
        reader = RecordingReader(path)
        got = list(reader.events())
        complete = sum(size <= cut for size in sizes)
        # One MCAP chunk ends before its message index, so a cut inside the index still has the chunk.
        assert len(got) in (complete * 5, complete * 5 + 5)
        for seq, chunk in enumerate(event for event in got if isinstance(event, Chunk)):
            assert chunk.seq == seq
            assert chunk.data.tobytes() == item(seq).data.tobytes()
            assert chunk.clock == CLOCK
        if complete:
            assert reader.specs == SPECS
            assert reader.metadata("seam") == {"seam_id": "S"}
            assert (reader.metadata("recovered") or {})["messages"] == complete * 9 or len(got) > complete * 5


def test_an_unfinished_file_says_how_to_save_it(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "S.open", SPECS, HEADER)
    writer.chunk(item(0))
    writer.sync()
    writer.close()
    with pytest.raises(RecordingError, match=r"unfinished or truncated: its \d+ bytes .*edged recover"):
        RecordingReader(tmp_path / "S.open")
    assert len(list(RecordingReader(recover_recording(tmp_path / "S.open")).events())) == 1


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 5000, bytes(range(256)) * 20], ids=["zeros", "ones", "any"])
def test_garbage_after_a_power_cut_is_left_out(tmp_path: Path, tail: bytes) -> None:
    sizes = write_syncs(tmp_path / "whole.mcap")
    (tmp_path / "S.open").write_bytes((tmp_path / "whole.mcap").read_bytes()[: sizes[2]] + tail)
    path = recover_recording(tmp_path / "S.open")
    assert len(list(RecordingReader(path).events())) == 15


def test_a_flipped_bit_ends_the_recovery_there_and_the_damaged_file_stays(tmp_path: Path) -> None:
    sizes = write_syncs(tmp_path / "bad.mcap")
    blob = bytearray((tmp_path / "bad.mcap").read_bytes())
    blob[sizes[1] + 60] ^= 1
    (tmp_path / "bad.mcap").write_bytes(blob)
    path = recover_recording(tmp_path / "bad.mcap")
    assert path == tmp_path / "bad.recovered.mcap"
    assert (tmp_path / "bad.mcap").read_bytes() == blob
    reader = RecordingReader(path)
    assert len(list(reader.events())) == 10
    assert "before byte" in (reader.metadata("recovered") or {})["damage"]
    assert list(tmp_path.glob("*.recovering")) == []


def test_recovering_again_after_a_crash_in_mid_recovery_is_harmless(tmp_path: Path) -> None:
    sizes = write_syncs(tmp_path / "whole.mcap")
    blob = (tmp_path / "whole.mcap").read_bytes()[: sizes[3]]
    (tmp_path / "S.open").write_bytes(blob)
    (tmp_path / "S.recovering").write_bytes(b"half")
    first = recover_recording(tmp_path / "S.open").read_bytes()
    (tmp_path / "S.open").write_bytes(blob)
    assert recover_recording(tmp_path / "S.open").read_bytes() == first


def test_the_disk_filling_up_during_recovery_keeps_the_original(tmp_path: Path) -> None:
    sizes = write_syncs(tmp_path / "whole.mcap")
    (tmp_path / "S.open").write_bytes((tmp_path / "whole.mcap").read_bytes()[: sizes[3]])
    (tmp_path / "S.recovering").symlink_to("/dev/full")
    with pytest.raises(RecordingError, match="recovery failed: No space left on device"):
        recover_recording(tmp_path / "S.open")
    assert (tmp_path / "S.open").stat().st_size == sizes[3]
    assert not (tmp_path / "S.mcap").exists()
