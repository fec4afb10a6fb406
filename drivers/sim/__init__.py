"""The virtual cell: physics renders a seam, transports play it over the wires that real devices use."""

SIM_VERSION = "1.0"
"""Of physics and severities; recordings and reports carry it."""
FROZEN_DIGEST = "a26b93e96beae330"
"""What `digest.physics_digest` gives for `SIM_VERSION`."""
