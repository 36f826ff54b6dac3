import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import model_store
from model_store.backbones import SpeechModule
from model_store.checkpoint import save_checkpoint
from model_store.decoding.greedy import decode_greedy
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.errors import CheckpointError, ModelUnknown
from model_store.registry import DEFAULT_MODEL, Recogniser, shipped, weights_folder
from model_store.registry.names import published_checkpoint
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer

ROOT = Path(model_store.__file__).parents[1]
TOKENS: dict[str, Any] = {
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def saved(folder: Path) -> Path:
    save_checkpoint(
        BACKBONES["moonshine"].build(), PlanCatalogue.untuned(NUM_LAYERS), folder, int8=True
    )
    write_tokenizer(folder)
    return folder


def run_apart(program: str, **variables: str) -> str:
    command = [sys.executable, "-c", program]
    env = {"PATH": "", "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=env)
    return done.stdout.strip()


def test_importing_the_library_loads_neither_torch_nor_transformers() -> None:
    program = "import sys, model_store; print({'torch', 'transformers'} & set(sys.modules))"

    assert run_apart(program) == "set()"


def test_what_the_library_names_is_there() -> None:
    assert all(getattr(model_store, name) for name in model_store.__all__)


def test_a_name_the_library_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'model_store' has no attribute 'train'"):
        _ = model_store.train


def test_an_unknown_name_is_refused_with_what_is_shipped() -> None:
    with pytest.raises(
        ModelUnknown, match=r"a folder, or an OWNER/NAME .*got 'moonshine-huge'"
    ) as e:
        model_store.load("moonshine-huge")

    assert all(name in str(e.value) for name in shipped())


@pytest.mark.timeout(120)
def test_a_name_that_cannot_be_fetched_is_refused(tmp_path: Path) -> None:
    program = (
        "import model_store\n"
        "from model_store.errors import ModelUnknown\n"
        "try: model_store.load('nobody/nothing')\n"
        "except ModelUnknown as error: print(error)"
    )

    said = run_apart(program, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))

    assert said.startswith("expected 'nobody/nothing' on the hub")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnknown, match=r"expected a checkpoint with a config\.json in"):
        model_store.load(str(tmp_path))


def test_a_folder_is_loaded_and_named_after_itself(tmp_path: Path) -> None:
    model = model_store.load(str(saved(tmp_path / "tiny")))

    assert isinstance(model, Recogniser)
    assert (model.name, model.num_layers) == ("tiny", NUM_LAYERS)
    assert model.catalogue == PlanCatalogue.untuned(NUM_LAYERS)


@pytest.mark.parametrize("text", [None, "{"])
def test_a_checkpoint_without_tokens_is_refused(tmp_path: Path, text: str | None) -> None:
    tokens = saved(tmp_path) / "tokenizer.json"
    tokens.unlink()
    if text is not None:
        tokens.write_text(text, encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"expected JSON in 'tokenizer\.json'"):
        model_store.load(str(tmp_path))


def test_the_default_model_is_shipped_where_any_is() -> None:
    assert all((weights_folder() / name / "model.safetensors").is_file() for name in shipped())
    assert not shipped() or DEFAULT_MODEL in shipped()


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")
def test_a_folder_as_the_hub_holds_it_is_read(tmp_path: Path) -> None:
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    config = MoonshineConfig(
        **TOKENS,
        hidden_size=32,
        intermediate_size=48,
        encoder_num_hidden_layers=3,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
    )
    torch.manual_seed(0)
    reference: Any = MoonshineForConditionalGeneration(config).eval()
    reference.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)

    checkpoint = published_checkpoint(tmp_path)

    assert model_store.load(str(tmp_path)).num_layers == 3
    assert checkpoint.catalogue == PlanCatalogue.untuned(3)
    assert not checkpoint.model.training
    # Its greedy words are those of the original.
    samples_BS, _ = noise(16_000)
    limit = 5
    expected_BU: torch.Tensor = reference.generate(
        input_values=samples_BS, max_new_tokens=limit, do_sample=False
    )
    found = greedy_tokens(checkpoint.model, samples_BS, limit)
    assert [1, *found] == [int(token) for token in expected_BU[0]][: len(found) + 1]
    (heard,) = Recogniser("published", checkpoint).transcribe_windows(
        [samples_BS[0].numpy()], DepthPlan.full(3)
    )
    assert heard.flops > 0


def greedy_tokens(model: SpeechModule, samples_BS: torch.Tensor, limit: int) -> list[int]:
    with torch.inference_mode():
        encoded = model.encode(
            samples_BS,
            torch.tensor([samples_BS.shape[1]]),
            DepthSchedule.constant(DepthPlan.full(model.num_layers)),
        )
    return decode_greedy(model, encoded, [limit], model.config.end_token)[0].tokens


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"expected JSON in 'config\.json'"),
        (json.dumps({"model_type": "wav2vec2"}), "expected the weights of a wav2vec2 model"),
        (json.dumps({"model_type": "moonshine"}), r"expected one file model\.safetensors"),
    ],
)
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "config.json").write_text(config, encoding="utf-8")

    with pytest.raises(CheckpointError, match=message):
        published_checkpoint(tmp_path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize("kind", ["moonshine", "moonshine_streaming", "whisper"])
def test_a_clone_without_its_large_files_says_how_to_fetch_them(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    (tmp_path / "model.safetensors").write_text(POINTER, encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"got a pointer to them; run `git lfs pull` in"):
        model_store.load(str(tmp_path))


def test_a_clone_whose_weights_lie_in_parts_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "moonshine"}', encoding="utf-8")
    (tmp_path / "model.safetensors.index.json").write_text("{}", encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"one file model\.safetensors in .*save_pretrained"):
        model_store.load(str(tmp_path))


def test_a_clone_without_weights_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "moonshine"}', encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"one file model\.safetensors in .*, got none"):
        model_store.load(str(tmp_path))


def test_a_folder_of_the_hub_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected JSON in 'config\.json'"):
        published_checkpoint(tmp_path)
