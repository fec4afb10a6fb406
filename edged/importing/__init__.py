"""Recordings made by others → recordings of edged."""
