"""One row of the comparison: what a cell's figures come to, and whether promises were kept."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.slo_score import LAG_LIMIT_S, STABLE_LIMIT_S, Figures, percentiles
from benchmarks.slo_stream import Heard
from model_store.text.wer import bootstrap_interval, total

IN_TIME_SHARE = 0.99
STABLE_SHARE = 0.9
MAX_PARTIAL_INTERVAL_S = 1.0


def summarise(figures: Figures) -> dict[str, object]:
    """Give the figures of a window.

    Returns:
        in_time_share: of accepted audio, with a lag under a second; what was dropped, or what no
            message ever covered, was not in time.
        stable_share: of the words that an unloaded pass hears and this one heard too, those that
            were settled within two seconds of being spoken.
        wer: of finals against transcripts; words of dropped audio are lost words.
    """
    return {
        "in_time_share": _share(figures.in_time_packets, figures.accepted_packets),
        "in_time_of_offered_share": _share(figures.in_time_packets, figures.offered_packets),
        "lag_s": percentiles(figures.lag_s),
        "first_partial_s": percentiles(figures.first_partial_s),
        "first_words_taken_back": figures.first_words_taken_back,
        "partial_interval_s": percentiles(figures.partial_interval_s),
        "final_s": percentiles(figures.final_s),
        "stable_s": percentiles(figures.stable_s),
        "stable_share": _share(
            sum(delay_s <= STABLE_LIMIT_S for delay_s in figures.stable_s), len(figures.stable_s)
        ),
        "heard_words_share": _share(len(figures.stable_s), figures.words_to_settle),
        "changed_words": round(fmean(figures.changed_words), 4) if figures.changed_words else None,
        "dropped_s": round(figures.dropped_s, 3),
        "mean_layers": _share(figures.layer_s, figures.encoded_s),
        "depth_changes": {
            "all": sum(figures.depth_changes),
            "most_of_a_stream": max(figures.depth_changes, default=0),
        },
        **_words(figures),
    }


def promises(row: dict[str, object]) -> dict[str, bool | None]:
    """Say which promises to a reader a row keeps; None where nothing was there to judge."""
    interval, stable = row["partial_interval_s"], row["stable_share"]
    in_time = row["in_time_share"]
    return {
        "lag": None if in_time is None else float(str(in_time)) >= IN_TIME_SHARE,
        "partial_interval": None
        if not isinstance(interval, dict)
        else float(interval["p95"]) <= MAX_PARTIAL_INTERVAL_S,
        "stable_words": None if stable is None else float(str(stable)) >= STABLE_SHARE,
    }


def admission(heard: Sequence[Heard]) -> dict[str, object]:
    """Say who was refused, how soon, and what else went wrong."""
    refused = [one.refused_s for one in heard if one.refused_s is not None]
    late_s = [late for one in heard for late in one.late_s]
    return {
        "refused": len(refused),
        "refused_after_s": percentiles(refused),
        "errors": [error for one in heard for error in one.errors],
        "client_late_s": percentiles(late_s),
    }


def keeps_up(row: dict[str, object], streams: Sequence[Heard]) -> bool:
    """Say whether streams were kept up with: p95 lag under a second, no fault, nothing lost."""
    lag = row["lag_s"]
    return (
        isinstance(lag, dict)
        and float(lag["p95"]) < LAG_LIMIT_S
        and row["dropped_s"] == 0
        and not any(one.errors or one.refused_s is not None for one in streams)
    )


def recovery_s(light: Sequence[Heard], ended_s: float) -> float | None:
    """Seconds from a load's end until every stream that goes on runs at full depth for good.

    Args:
        light: streams that go on.
        ended_s: moment of the clock at which the others stopped.

    Returns:
        0 if they were there already; None if one was not at the end, or was never let in.
    """
    found: list[float] = []
    for one in light:
        full, since_s = 0.0, ended_s
        layers = -1.0
        for now_s, message in one.told:
            if message["type"] == "ready":
                full, layers = float(message["layers_total"]), float(message["layers"])
            elif message["type"] == "depth":
                layers, since_s = float(message["layers"]), now_s
        if layers != full or not full:
            return None
        found.append(max(0.0, since_s - ended_s))
    return round(max(found), 3) if found else None


def _words(figures: Figures) -> dict[str, object]:
    if not figures.errors:
        return {"wer": None, "wer_interval": None, "reference_words": 0, "clips": 0}
    counted = total(figures.errors)
    return {
        "wer": round(counted.rate, 4),
        "wer_interval": [round(edge, 4) for edge in bootstrap_interval(figures.errors)],
        "reference_words": counted.reference_words,
        "clips": len(figures.errors),
    }


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 5) if whole else None
