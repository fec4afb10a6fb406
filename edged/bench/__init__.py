"""What is measured of edged itself: reporting verbs, none of it runs in the daemon."""
