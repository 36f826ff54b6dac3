"""From encoder states to words: incremental decoding, guards, word times."""
