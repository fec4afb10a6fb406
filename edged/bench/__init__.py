"""Benchmarks that judge the virtual cell and the detectors; nothing here runs in the daemon."""
