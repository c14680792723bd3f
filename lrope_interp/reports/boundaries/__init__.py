"""The page of boundaries."""
