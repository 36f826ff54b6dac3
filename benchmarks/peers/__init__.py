"""The static recognisers that the elastic one is measured against, in the same run."""

from benchmarks.peers.base import Peer

__all__ = ["Peer"]
