"""Programs that measure; they print a table and, last, one JSON line, and gate nothing."""
