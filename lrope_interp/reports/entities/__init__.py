"""The page of entities."""
