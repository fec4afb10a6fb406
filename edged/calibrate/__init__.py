"""`edged calibrate KIND`: one verb a file; each measures one device and writes one file of `calibration.files`."""
