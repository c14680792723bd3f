"""The page of ablations."""
