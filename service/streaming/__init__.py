"""One stream: its bytes, its utterances, what of a caption is stable, and what its client is told."""
