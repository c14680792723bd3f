"""The page of context."""
