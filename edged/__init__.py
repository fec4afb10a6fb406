"""edged: the daemon, from devices to verdicts, and its command line."""
