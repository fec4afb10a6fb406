"""What a PLC's program needs of edged: verdicts without a gap, and the control socket."""
