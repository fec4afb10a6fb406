"""The virtual cell: physics renders a seam, transports play it over the wires that real devices use."""

SIM_VERSION = "0.1"
"""Of physics and severities; recordings, models and results carry it."""
