"""Training: one frozen config in, one run folder out; resumable, and silent but for its events."""
