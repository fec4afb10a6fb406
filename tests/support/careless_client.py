"""A client as nobody should write one: a subscriber that prints what comes, and knows neither gaps nor heartbeats."""

import sys

import msgpack
import zmq


def main(verdicts: str) -> None:
    """Until it is killed."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(verdicts)
        socket.subscribe(b"verdict")
        print("state live", flush=True)
        while True:
            found = msgpack.unpackb(socket.recv_multipart()[1], strict_map_key=False)
            if isinstance(found, dict) and "sequence" in found:
                print(found["sequence"], int(found.get("label") == 1), found["seam_id"], flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
