"""Models that score every frame behind the whole service: files at any depth, streams refused."""

import json
from pathlib import Path

import pytest

import model_store
from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.registry import Recogniser
from model_store.registry.live_ctc import CtcLiveRecogniser
from model_store.text.bpe import train_bpe
from service.cli import main
from service.engine.torch_engine import LoadedModel, TorchEngine, create_torch_engine
from tests.decoder_kit import LoudGate, plain, tone
from tests.numerics.backbones import NUM_LAYERS, VOCABULARY
from tests.numerics.ctc_backbones import build
from tests.service_kit import running
from tests.stream_kit import packets, serving, sound

CLIP = Path(__file__).parents[1] / "assets" / "fox.opus"
NAMES = ("conformer", "conformer-streaming", "wavlm")


def saved(name: str, folder: Path) -> Path:
    """A checkpoint of random weights, whose words are made of every piece there is."""
    found = folder / name
    save_checkpoint(build(name), PlanCatalogue.untuned(NUM_LAYERS), found)
    texts = [f"{a}{b}{c}{d}" for a in "abcdefgh" for b in "aeiou" for c in "lmnr" for d in "stuv"]
    train_bpe(texts, VOCABULARY).save(str(found / "tokenizer.json"))
    return found


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return saved(request.param, tmp_path)


@pytest.mark.parametrize(
    ("query", "layers"),
    [("drop=0", 3), ("drop=0.5", 1.5), ("drop=0.3&policy=skip", 2), ("drop=0.6&policy=first-k", 1)],
)
async def test_a_file_is_transcribed_at_the_depth_asked_for(
    folder: Path, query: str, layers: float
) -> None:
    engine = TorchEngine(lambda: model_store.load(str(folder)), LoudGate)
    recording = plain(tone(3), 48_000, "FLAC", "PCM_16")

    async with running(engine) as app:
        answer = await app.transcribe(f"format=verbose_json&{query}", recording)
        full = await app.transcribe("format=verbose_json&drop=0", recording)

    assert answer.status_code == 200, answer.text
    assert answer.headers["X-ASR-Layers"] == f"{layers:g}/3"
    body, deepest = answer.json(), full.json()
    assert 0 < body["encoder_flops"] < body["flops"]
    assert (body["encoder_flops"] < deepest["encoder_flops"]) == (layers < 3)
    words = body["words"]
    assert body["text"].split() == [word["word"] for word in words]
    assert all(0 <= word["start"] <= word["end"] <= 3.1 for word in words)
    assert all(0 < word["confidence"] <= 1 for word in words)


@pytest.mark.parametrize("name", ["conformer", "wavlm"])
async def test_a_stream_is_refused_with_a_code_of_its_own(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path)
    async with serving(create_torch_engine(str(folder), num_threads=1)) as app:
        client = await app.connect()
        code = await client.read_to_end()

    (error,) = client.all("error")
    assert code == 4400
    assert error.code == "streaming_unsupported"
    assert f"got {folder.name!r}, which takes files alone" in error.message


def test_the_command_line_transcribes_with_a_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["transcribe", "--model", str(folder), "--drop", "0.5", "--format", "json", str(CLIP)]
    )

    told = json.loads(capsys.readouterr().out)
    assert status in {None, 0}
    assert told["layers"] == 1.5


@pytest.mark.parametrize("query", ["drop=0", "drop=0.5", "drop=0.3&policy=skip"])
async def test_a_causal_conformer_hears_live_streams(tmp_path: Path, query: str) -> None:
    folder = saved("conformer-streaming", tmp_path)

    def open_live(loaded: LoadedModel) -> CtcLiveRecogniser:
        assert isinstance(loaded, Recogniser)
        return CtcLiveRecogniser(loaded)

    engine = TorchEngine(lambda: model_store.load(str(folder)), LoudGate, open_live)
    async with serving(engine) as app:
        client = await app.connect(query)
        await client.send(*packets(sound((3.0, 0.3), (1.5, 0.0))), {"type": "stop"})
        code = await client.read_to_end()

    finals = client.all("final")
    assert code == 1000
    assert len(finals) == 1
    assert finals[0].text.split() == [word.word for word in finals[0].words]
    assert finals[0].flops > 0
    assert client.all("ready")[0].chunk_ms == 640
