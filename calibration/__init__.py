"""Calibration: what turns raw device counters and raw readings into host time and physical units."""
