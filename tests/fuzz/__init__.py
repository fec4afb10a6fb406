"""Nonsense at every socket of the daemon and its bridges, for as long as one likes: `make fuzz MINUTES=10`."""
