"""The service on several machines: one app, many replicas, placed and scaled by Ray."""
