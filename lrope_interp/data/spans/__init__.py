"""Typed stretches of text: what concepts, names and definitions are, place by place."""
