"""A text as each layer spaces it."""
