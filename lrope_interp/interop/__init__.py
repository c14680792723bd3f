"""Bridges to other libraries' own tools."""
