"""What the fake engine says, and what it claims to cost; the same for files and streams."""

from collections.abc import Collection

from service.engine.base import PlanInUse, Word

VOCABULARY = (
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "xray",
    "yankee",
    "zulu",
)
NUM_LAYERS = 8
WORD_S = 0.5
SILENCE_PEAK = 1e-3
LAYER_FLOPS_PER_S = 100_000_000
FIXED_FLOPS_PER_S = 200_000_000


def word_at(index: int, plan: PlanInUse, hotwords: Collection[str] = ()) -> Word:
    """Give the word of a half second, as a plan hears it.

    Args:
        index: of the half second.
        plan: a shallow one misses words.
        hotwords: of which one that is missed is said all the same, as the caller writes it and no
            surer than before.
    """
    kept = plan.effective_layers / plan.layers_total
    heard = int((index + 1) * kept) > int(index * kept)
    said = VOCABULARY[index % len(VOCABULARY)]
    expected = next((word for word in hotwords if word.casefold() == said), "um")
    text = said if heard else expected
    return Word(text, index * WORD_S, (index + 1) * WORD_S, 0.95 if heard else 0.4)
