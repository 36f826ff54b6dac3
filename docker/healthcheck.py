"""Say by the exit status whether the service in this container is well: 0, or 1.

    python healthcheck.py HOST:PORT

Well is a service that has loaded its model and answers. Saturated or draining is well too: nobody
should restart a server for being busy, or for finishing its work.
"""

import json
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT_S = 4.0
READY = 200
WELL_THOUGH_NOT_READY = frozenset({"saturated", "draining"})


def is_well(address: str) -> bool:
    """Ask over HTTP, and over TLS where the service speaks only that."""
    for connect in (_plain, _over_tls):
        try:
            return _asks_for_no_restart(connect(address))
        except (OSError, HTTPException, ValueError):
            continue
    return False


def _asks_for_no_restart(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return answer.status == READY or json.loads(body).get("reason") in WELL_THOUGH_NOT_READY


def _plain(address: str) -> HTTPConnection:
    return HTTPConnection(address, timeout=TIMEOUT_S)


def _over_tls(address: str) -> HTTPConnection:
    # The certificate names the host that callers use, and this asks by the loopback address.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(address, timeout=TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(0 if is_well(sys.argv[1]) else 1)
