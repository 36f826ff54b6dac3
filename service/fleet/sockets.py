"""Where the processes of Ray listen."""

from typing import Any

import ray
from ray.serve._private import replica


def bind_to_node() -> None:
    """Make a replica's own gRPC port listen on its node's address; called in the replica's process.

    All other ports of Ray do where the node's address is the loopback one. This one listens on every
    address of the machine and cannot be told otherwise (ray 2.60, ray/serve/_private/replica.py,
    `_on_initialized`); it goes once Serve binds it as Ray binds its own.
    """
    serve_replica: Any = replica  # Any: what is put in another's place has no type
    host, add_port = ray.util.get_node_ip_address(), serve_replica.add_port_to_grpc_server

    def add_port_of_node(server: object, address: str) -> int:
        port = address.rpartition(":")[2]
        return add_port(server, f"{host}:{port}")

    serve_replica.add_port_to_grpc_server = add_port_of_node
