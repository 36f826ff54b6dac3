"""Ask a running Prometheus everything that the dashboard and the rules ask, and require data back.

    python -m benchmarks.dashboard_check http://127.0.0.1:9090 > dashboard.json

Put a load on the service first, and keep it on: rates look a minute back. An alert that does not
fire gives nothing, and neither does a series that trouble alone begins; everything else has to.
Exits with 1 when a panel or a recording rule that should has nothing to show.
"""

import argparse
import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.expressions import Expression, dashboard_expressions, rule_expressions
from benchmarks.hardware import read_environment
from benchmarks.record import Run, document

TIMEOUT_S = 30
# Series that begin with the first event of their kind, and what that event is.
NEEDS_AN_EVENT: Mapping[str, str] = {
    "asr_admission_rejected_total": "a request refused for want of room",
    "asr_decode_rejected_total": "an upload that is no audio",
    "asr_depth_decisions_total": "a change of depth",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus says to an expression.

    Args:
        rows: series in the answer.
        value: of the first that is a number.
    """

    asked: Expression
    rows: int
    value: float | None

    @property
    def may_be_empty(self) -> str | None:
        """Why it is well that nothing comes back, or None."""
        if self.asked.place.startswith("rule Asr"):
            return "an alert that does not fire"
        return next((why for name, why in NEEDS_AN_EVENT.items() if name in self.asked.text), None)

    @property
    def verdict(self) -> str:
        """`data`, `nothing yet` or `MISSING`."""
        if self.rows:
            return "data"
        return "nothing yet" if self.may_be_empty else "MISSING"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check from the command line."""
    options = _parse(arguments)
    asked = [*dashboard_expressions(), *rule_expressions()]
    answers = [ask(options.prometheus, one) for one in asked]
    for one in answers:
        note = f" ({one.may_be_empty})" if one.verdict == "nothing yet" else ""
        print(f"{one.verdict:12}{one.rows:4}  {one.asked.place}{note}", file=sys.stderr)
    started = datetime.now(UTC)
    run = Run(
        benchmark="dashboard",
        started=started,
        environment=read_environment(),
        config={"load": options.load},
        warm_up=0,
        repeats=1,
    )
    rows = [
        {
            "place": one.asked.place,
            "expression": one.asked.text,
            "verdict": one.verdict,
            "rows": one.rows,
            "value": one.value,
        }
        for one in answers
    ]
    print(json.dumps(document(run, rows)))
    return int(any(one.verdict == "MISSING" for one in answers))


def ask(prometheus: str, asked: Expression) -> Answer:
    """Evaluate an expression now.

    Raises:
        urllib.error.HTTPError: Prometheus does not take it.
    """
    query = urllib.parse.urlencode({"query": asked.text})
    url = f"{prometheus.rstrip('/')}/api/v1/query?{query}"
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        return read(asked, json.load(answer))


def read(asked: Expression, answer: Mapping[str, Any]) -> Answer:
    """Take in what Prometheus' HTTP API gives; a value that is not a number is no data."""
    values = [float(row["value"][1]) for row in answer["data"]["result"]]
    numbers = [value for value in values if value == value]
    return Answer(asked, len(numbers), numbers[0] if numbers else None)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prometheus", help="where it listens, as in http://127.0.0.1:9090")
    parser.add_argument("--load", default="", help="a word on the load, for the record")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
