"""The selective scan of Mamba: the reference, two compiled forms, and which of them runs.

`choice` picks one at run time and is what models call; `reference` says what all of them compute.
"""

from pipelines.selective_scan.choice import BackendError, forced_backend, scan_backend, selective_scan
from pipelines.selective_scan.reference import scan, scan_ref

__all__ = ["BackendError", "forced_backend", "scan", "scan_backend", "scan_ref", "selective_scan"]
