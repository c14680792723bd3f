"""The page of spacing."""
