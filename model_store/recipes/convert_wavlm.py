"""Convert published WavLM weights to a checkpoint folder, to serve or to train.

    python -m model_store.recipes.convert_wavlm --model DIR --out DIR \
        [--tokens tokenizer.json] [--bypass-rank 64]

DIR is a folder as the hub holds it. A model that was never trained to transcribe needs `--tokens`,
whose pieces a new read-out of random weights then scores: the place where fine-tuning begins. With
it, a model's own read-out is left behind. `model_store.text.bpe` trains such pieces.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import tokenizers
import torch

from model_store.backbones.wavlm import WavLM
from model_store.backbones.wavlm_names import from_published, published_config, read_wavlm
from model_store.checkpoint import save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.errors import CheckpointError
from model_store.text.bpe import BLANK, letters_vocabulary

NEW_HEAD = ("head.weight", "head.bias")
STARTS_AS_IS = ("pool_RD", "give_RD", ".bypass.")
"""Parameters that published models lack."""


def main() -> None:
    """Run the conversion from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, help="pieces that a new read-out scores")
    parser.add_argument("--bypass-rank", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = convert(
        options.model, options.out, tokens=options.tokens, bypass_rank=options.bypass_rank
    )
    print(f"{model.num_layers} layers, {model.vocabulary} tokens")


def convert(folder: Path, out: Path, *, tokens: Path | None = None, bypass_rank: int = 0) -> WavLM:
    """Write the checkpoint folder.

    Args:
        folder: as the hub holds it.
        out: made when missing.
        tokens: `tokenizer.json` whose pieces a new read-out scores; None keeps the model's own.
        bypass_rank: inner width of a skipped layer's bypass.

    Raises:
        CheckpointError: the folder cannot be read, or has no read-out and is given none.
    """
    sizes, published = read_wavlm(folder)
    config = dataclasses.replace(published_config(sizes), bypass_rank=bypass_rank)
    state = from_published(published, config)
    if tokens is None:
        pieces = letters_vocabulary(json.loads((folder / "vocab.json").read_text("utf-8")))
    else:
        pieces = tokenizers.Tokenizer.from_file(str(tokens))
        config = dataclasses.replace(config, vocabulary=pieces.get_vocab_size(), blank=BLANK)
        state = {name: value for name, value in state.items() if name not in NEW_HEAD}
    if tokens is None and NEW_HEAD[0] not in state:
        raise CheckpointError("expected --tokens for a WavLM without a read-out, got none")
    model = WavLM(config)
    found = model.load_state_dict(state, strict=False)
    allowed = STARTS_AS_IS if tokens is None else (*STARTS_AS_IS, *NEW_HEAD)
    missing = [n for n in found.missing_keys if not any(part in n for part in allowed)]
    if missing or found.unexpected_keys:
        raise CheckpointError(
            f"expected the parameters of a WavLM, got {missing[:1]} missing "
            f"and {found.unexpected_keys[:1]} beside them"
        )
    save_checkpoint(model, PlanCatalogue.untuned(model.num_layers), out)
    if tokens is None:
        pieces.save(str(out / "tokenizer.json"))
    else:
        shutil.copy(tokens, out / "tokenizer.json")
    return model.eval()


if __name__ == "__main__":
    main()
