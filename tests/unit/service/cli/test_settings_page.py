from pathlib import Path

import pytest

from service.cli import main
from service.cli.settings_page import settings_page
from service.settings import Settings

PAGE = Path(__file__).parents[4] / "docs" / "settings.md"


def test_the_page_in_the_documentation_is_the_one_that_is_written_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "run: asr settings > docs/settings.md"
    )


def test_every_setting_has_a_row_with_what_it_may_be() -> None:
    rows = [row.split(" | ") for row in settings_page().splitlines() if row.startswith("| `")]

    assert [row[0] for row in rows] == [f"| `ASR_{name.upper()}`" for name in Settings.model_fields]
    assert all(len(row) == 4 and all(row) for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        "whole number, at least 0, at most 65535 | `8000` |",
        "| `auto`, `onnx`, `torch`, `fake` | `auto` |",
        "| secret text | none |",
        "| true, false | `true` |",
        "| path | `~/.cache/elastic-asr` |",
    ],
)
def test_limits_choices_and_defaults_are_in_words(row: str) -> None:
    assert row in settings_page()


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert capsys.readouterr().out == settings_page()
