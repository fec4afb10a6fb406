"""What is measured of the virtual cell and of the detectors on it: reporting verbs, none of it runs in the daemon."""
