"""What can be probed for, and how much of it; known before torch is loaded."""

INCREMENTS, POSITIONS, RESID = "increments", "positions", "resid"
FEATURES = (INCREMENTS, POSITIONS, RESID)
MOST_SPANS = 100_000
MOST_RESID_SPANS = 20_000
