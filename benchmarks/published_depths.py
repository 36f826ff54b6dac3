"""What was published of word errors by depth on LibriSpeech-960, to stand beside what is measured.

Greedy or lexicon-constrained as each source has it, so a place to look rather than a like-for-like
comparison. The per-depth tables of the layer-dropping papers themselves could not be read.

Source: Splitformer's model card (arXiv 2506.18035), the files of `wer_results` in
augustgw/wav2vec2-ee, and for DLD's full depth wizwand.com (paper 697300a5b2be0ed85a78cb4b).
"""

from collections.abc import Mapping

PUBLISHED: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "conformer-ee": {
        2: (31.0, 51.0), 4: (11.7, 27.8), 6: (7.1, 19.8), 8: (5.8, 16.6), 10: (5.3, 15.3),
        12: (5.1, 14.8),
    },
    "splitformer": {
        2: (28.1, 48.3), 4: (10.8, 26.4), 6: (6.7, 19.2), 8: (5.5, 16.3), 10: (5.1, 15.1),
        12: (4.8, 14.7),
    },
    "wav2vec2-ee": {
        2: (33.7, 56.0), 4: (17.4, 36.7), 6: (9.6, 23.7), 8: (5.8, 15.9), 10: (4.5, 12.6),
        12: (4.3, 12.2),
    },
    "wav2vec2-static": {
        2: (35.7, 56.7), 4: (17.4, 35.5), 6: (10.8, 24.8), 12: (3.7, 9.9),
    },
    "wavlm-ee": {
        2: (28.0, 48.5), 4: (13.9, 27.3), 6: (8.7, 18.4), 8: (4.8, 12.4), 10: (4.0, 9.5),
        12: (3.6, 8.8),
    },
}  # fmt: skip
"""Layers kept -> word error rate in percent on test-clean and test-other."""

DLD_FULL_DEPTH: Mapping[str, float] = {
    "LibriSpeech test-clean": 4.57,
    "LibriSpeech 1000 test-clean": 5.82,
    "TED-LIUM 3 test": 9.19,
}
"""Best rows of DLD, in percent; which backbone and depth each is of was not stated."""


def published_table(name: str) -> str:
    """Write one of the tables as Markdown, deepest first, and DLD's best rows below."""
    lines = [
        f"Published, {name}, LibriSpeech-960:",
        "",
        "| layers | test-clean % | test-other % |",
        "|---|---|---|",
    ]
    for layers, (clean, other) in sorted(PUBLISHED[name].items(), reverse=True):
        lines.append(f"| {layers} | {clean:.1f} | {other:.1f} |")
    best = ", ".join(f"{where} {rate:.2f}" for where, rate in DLD_FULL_DEPTH.items())
    return "\n".join([*lines, "", f"DLD, best row of each: {best}."]) + "\n"
