"""Scaling decisions, counted where the controller and every replica can reach them.

Decisions are taken in Serve's controller, which has no metrics page of ours; replicas have one. What
lies between is the store that Ray's cluster has for such: a few bytes, written once a decision.
"""

import json
from collections import Counter

from ray.experimental.internal_kv import (
    _internal_kv_get,  # pyright: ignore[reportPrivateUsage] Ray has no public name for it
    _internal_kv_put,  # pyright: ignore[reportPrivateUsage]
)

NAMESPACE = b"elastic-asr"
KEY = b"scaling-decisions"


class Ledger:
    """Counts of decisions by their reason, as long as the cluster lives."""

    def add(self, reason: str) -> None:
        """Count one; the controller alone does."""
        counts = self.read()
        counts[reason] += 1
        _internal_kv_put(KEY, json.dumps(counts).encode(), namespace=NAMESPACE)

    def read(self) -> Counter[str]:
        """Give the counts."""
        stored = _internal_kv_get(KEY, namespace=NAMESPACE)
        return Counter(json.loads(stored) if stored else {})
