"""JPEGs filled up to whole buffers, as cameras hand them out.

Here it also keeps a weld's faults out of the size of its files, which no detector may live on.
"""

__all__ = ["filled"]

MAX_COMMENT_BYTES = 65_535
"""Of a comment segment with its length, without its marker."""
MARKER_BYTES, LEAST_BYTES = 2, 4


def filled(jpeg: bytes, buffer_bytes: int) -> bytes:
    """The JPEG with comments of zeros behind its first marker, as long as the next multiple of `buffer_bytes`."""
    missing = -len(jpeg) % buffer_bytes
    if 0 < missing < LEAST_BYTES:
        missing += buffer_bytes
    comments = b""
    while missing:
        size = min(missing, MARKER_BYTES + MAX_COMMENT_BYTES)
        if 0 < missing - size < LEAST_BYTES:
            size -= LEAST_BYTES  # what is left must hold another comment
        length = size - MARKER_BYTES
        comments += b"\xff\xfe" + length.to_bytes(2, "big") + bytes(length - 2)
        missing -= size
    return jpeg[:2] + comments + jpeg[2:]
