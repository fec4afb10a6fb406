"""Opening and reading a serial port with errors a technician can act on; shared by the serial drivers.

pyserial opens with O_NONBLOCK, so opening takes no time-out of its own: it succeeds or fails at once.
"""

import errno
from typing import TYPE_CHECKING

from drivers.base import DeviceError

if TYPE_CHECKING:
    import serial

__all__ = ["SerialPort"]

_FIXES: dict[int | None, str] = {
    errno.ENOENT: "is it plugged in? `edged devices` lists the ports there are",
    errno.EACCES: "add the user to the group dialout or install edged's udev rules",
    errno.EAGAIN: "another program holds it; `fuser -v` on the port shows which",
    errno.EWOULDBLOCK: "another program holds it; `fuser -v` on the port shows which",
}


class SerialPort:
    """One exclusively opened port; every failure is a DeviceError that names the port."""

    def __init__(self, port: str, baud: int, read_timeout_s: float) -> None:
        self._port = port
        self._baud = baud
        self._read_timeout_s = read_timeout_s
        self._serial: serial.Serial | None = None

    def open(self) -> None:
        """Open the port (8N1). Raises DeviceError when it is missing, forbidden or in use."""
        import serial

        self.close()
        try:
            self._serial = serial.Serial(self._port, self._baud, timeout=self._read_timeout_s, exclusive=True)
        except (OSError, ValueError) as error:
            # pyserial raises ValueError for a baud rate that the port's driver refuses.
            number = getattr(error, "errno", None)
            fix = _FIXES.get(number, "check port and baud in the config against `edged devices`")
            raise DeviceError(
                f"serial port {self._port} at {self._baud} baud cannot be opened: {error}; {fix}"
            ) from error

    def read(self, at_least: int) -> bytes:
        """Wait for `at_least` bytes or the read time-out, then take all there is; may be empty."""
        if self._serial is None:
            raise DeviceError(f"serial port {self._port} is read before it was opened; call open() first")
        try:
            data: bytes = self._serial.read(at_least)
            # SerialException is an OSError; in_waiting of an unplugged port raises a plain one.
            waiting = self._serial.in_waiting
            return data + self._serial.read(waiting) if waiting else data
        except OSError as error:
            raise DeviceError(
                f"serial port {self._port} failed while reading: {error}; was the board unplugged?"
            ) from error

    def close(self) -> None:
        """Release the port; safe to call at any time."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None
