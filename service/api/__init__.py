"""REST: requests in, answers out, and the table from errors to HTTP status."""
