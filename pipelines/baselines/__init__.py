"""Baselines of the wider field on the same cells and tokens as the detectors; the bench's comparison rows."""
