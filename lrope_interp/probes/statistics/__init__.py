"""Statistics on arrays: no model, no document."""
