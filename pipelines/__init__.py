"""Pipelines: features, detectors and thresholds; everything that turns a seam's chunks into a `Score`."""
