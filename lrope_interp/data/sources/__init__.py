"""One file a source of text: each returns a `CorpusPart`."""
