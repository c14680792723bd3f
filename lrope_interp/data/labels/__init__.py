"""Where boundaries are: by punctuation, by words, by rules, by gold files."""
