"""See the package map in docs."""
