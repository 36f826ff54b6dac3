"""The result file of a comparison: written after every cell, read again by a run that goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.record import Run, document


class Results:
    """Rows so far.

    Args:
        path: of the result file.
        run: how it is run.

    Raises:
        SystemExit: the file there was measured in another way, on another machine or at another
            commit: it has one environment for all of its rows.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self._path = path
        self._run = run
        commit = run.environment.commit
        self._commit = None if commit is None else asdict(commit)
        self._rows: dict[str, Mapping[str, Any]] = {}  # Any: JSON
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["config"] != json.loads(json.dumps(dict(run.config))):
                raise SystemExit(
                    f"expected the options that '{path}' was begun with, got others: "
                    f"{_changes(stored['config'], run.config)}; name another file"
                )
            self._refuse_another_machine(stored["environment"]["hardware"])
            self._rows = {row["cell"]: row for row in stored["results"]}
            self._refuse_another_commit()

    def finished(self, cell: str) -> Mapping[str, Any] | None:
        """Give a cell's row, if it was measured."""
        row = self._rows.get(cell)
        return None if row is None or "failed" in row else row

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row, in place of an older one of its cell, and write the file."""
        self._rows[str(row["cell"])] = {**row, "commit": self._commit}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.document()) + "\n", encoding="utf-8")
        partial.replace(self._path)

    def document(self) -> dict[str, object]:
        """Give what the file holds."""
        return document(self._run, list(self._rows.values()))

    def _refuse_another_machine(self, before: Mapping[str, object]) -> None:
        now = json.loads(json.dumps(asdict(self._run.environment.hardware)))
        if before != now:
            raise SystemExit(
                f"expected the machine that '{self._path}' was begun on, got another: "
                f"{_changes(before, now)}; name another file"
            )

    def _refuse_another_commit(self) -> None:
        for cell, row in self._rows.items():
            if "failed" not in row and row.get("commit") != self._commit:
                raise SystemExit(
                    f"expected rows of {_told(self._commit)} in '{self._path}', got "
                    f"{cell!r} of {_told(row.get('commit'))}; name another file"
                )


def _changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _told(commit: Mapping[str, Any] | None) -> str:  # Any: JSON
    if commit is None:
        return "no commit"
    return f"{commit['sha']}{' and changes' if commit['dirty'] else ''}"
