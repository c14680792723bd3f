"""What can be probed for, and how much of it; known before torch is loaded."""

INCREMENTS, POSITIONS, RESID = "increments", "positions", "resid"
FEATURES = (INCREMENTS, POSITIONS, RESID)
SUITES = ("default", "full")
MOST_SPANS = 100_000
MAX_BYTES = 100_000  # of each language in each split
MOST_RESID_SPANS = 20_000
