from fastapi import FastAPI

from service.api.listener import server_config
from service.settings import Settings


def test_a_clients_word_on_its_address_counts_only_behind_a_trusted_proxy() -> None:
    alone = server_config(FastAPI(), Settings())
    behind = server_config(FastAPI(), Settings(trusted_proxies="10.0.0.0/8, ::1"))

    assert not alone.proxy_headers
    assert behind.proxy_headers
    assert behind.forwarded_allow_ips == ["10.0.0.0/8", "::1"]
