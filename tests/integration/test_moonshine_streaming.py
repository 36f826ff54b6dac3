"""A tiny Moonshine Streaming behind the whole service, over real sockets."""

from pathlib import Path

import pytest

import model_store
from model_store.registry import Recogniser
from model_store.registry.live import LiveRecogniser
from service.engine.torch_engine import LoadedModel, TorchEngine
from tests.decoder_kit import LoudGate
from tests.numerics.moonshine_streaming_kit import saved
from tests.stream_kit import packets, serving, sound


def engine_of(folder: Path) -> TorchEngine:
    def open_live(loaded: LoadedModel) -> LiveRecogniser:
        assert isinstance(loaded, Recogniser)
        return LiveRecogniser(loaded)

    return TorchEngine(lambda: model_store.load(str(folder)), LoudGate, open_live)


@pytest.mark.parametrize("query", ["drop=0", "drop=0.5", "drop=0.3&policy=skip"])
async def test_it_hears_live_streams(tmp_path: Path, query: str) -> None:
    async with serving(engine_of(saved(tmp_path))) as app:
        client = await app.connect(query)
        await client.send(*packets(sound((3.0, 0.3), (1.5, 0.0))), {"type": "stop"})
        code = await client.read_to_end()

    (final,) = client.all("final")
    assert code == 1000
    assert final.text.split() == [word.word for word in final.words]
    assert final.flops > 0
    assert client.all("ready")[0].chunk_ms == 480


async def test_strides_may_change_while_it_hears(tmp_path: Path) -> None:
    async with serving(engine_of(saved(tmp_path))) as app:
        client = await app.connect("drop=0")
        heard = list(packets(sound((3.0, 0.3), (1.5, 0.0))))
        await client.send(*heard[:12], {"type": "configure", "drop": 0.5}, *heard[12:])
        await client.send({"type": "stop"})
        code = await client.read_to_end()

    (final,) = client.all("final")
    assert code == 1000
    assert not client.all("error")
    assert 1.5 <= final.layers < 3
