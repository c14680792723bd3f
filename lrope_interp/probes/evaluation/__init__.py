"""Nats and bits per byte of any text."""
