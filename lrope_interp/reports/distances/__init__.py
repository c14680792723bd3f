"""The page of distances."""
