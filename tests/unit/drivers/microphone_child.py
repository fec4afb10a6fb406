"""Runs the microphone driver in a process of its own, as ALSA_CONFIG_PATH must be set before PortAudio is loaded.

`python microphone_child.py OPTIONS_JSON STEP…` with steps `open`, `close`, `read=N` (chunks) and `fail` (read until
DeviceError). Prints one JSON line per step; samples as a list.
"""

import json
import sys

from drivers.base import DeviceError
from drivers.microphone_portaudio import MicrophonePortaudio, MicrophonePortaudioOptions


def read(driver: MicrophonePortaudio, n: int) -> dict[str, object]:
    chunks = []
    while len(chunks) < n:
        if (chunk := driver.read()) is not None:
            chunks.append(chunk)
    return {
        "samples": [int(s) for chunk in chunks for s in chunk.data[:, 0]],
        "chunks": [[c.seq, c.counter, c.n, c.lost_before, c.arrival_ns] for c in chunks],
    }


def fail(driver: MicrophonePortaudio) -> dict[str, object]:
    read_before = 0
    try:
        while True:
            read_before += driver.read() is not None
    except DeviceError as error:
        return {"error": str(error), "read_before": read_before, "active": driver._stream.active}


def main(options: str, *steps: str) -> None:
    driver = MicrophonePortaudio("mic", MicrophonePortaudioOptions.model_validate_json(options))
    for step in steps:
        verb, _, count = step.partition("=")
        answer: dict[str, object] = {}
        try:
            if verb == "open":
                driver.open()
            elif verb == "close":
                driver.close()
            elif verb == "read":
                answer = read(driver, int(count))
            elif verb == "fail":
                answer = fail(driver)
        except DeviceError as error:
            answer = {"error": str(error)}
        print(json.dumps({"step": step, **answer}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
