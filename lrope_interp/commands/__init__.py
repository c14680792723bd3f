"""One short file a command, and what commands share; nothing heavy is imported before a command runs."""
