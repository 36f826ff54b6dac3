"""Take the picture of the caption page that the README shows, from a started server.

    make picture
    python -m tests.e2e.screenshot --scheme dark dark.png

Two sentences have been said and a third is being spoken; what is on the page is what was heard.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import ViewportSize, expect

from tests.e2e.browser import chromium, microphone_flags, opened, recorded, until
from tests.e2e.server_process import started

ASSETS = Path(__file__).parents[1] / "assets"
CLIPS = ("digits.opus", "report.opus", "fox.opus")
PAUSE_S = 1.2
MIN_WORDS = 3
SIZE = ViewportSize(width=1200, height=720)
PATIENCE_MS = 60_000


def main() -> None:
    """Take it."""
    parser = argparse.ArgumentParser(description="Take a picture of the caption page.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--engine", default="auto", help="as of asr serve")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started(engine=parsed.engine) as server:
        clip = recorded(Path(folder) / "talk.wav", _talk(Path(folder) / "talk.flac"))
        with chromium() as launch:
            profile = launch(*microphone_flags(clip)).new_context(
                color_scheme=parsed.scheme, permissions=["microphone"], viewport=SIZE
            )
            with opened(profile.new_page(), f"http://127.0.0.1:{server.port}/") as page:
                page.get_by_role("button", name="Microphone").click()
                finals = page.get_by_role("log").locator(".caption")
                expect(finals).to_have_count(len(CLIPS) - 1, timeout=PATIENCE_MS)
                tentative = page.locator("#tentative:not([hidden]) .words")
                until(
                    page, lambda: len(" ".join(tentative.all_text_contents()).split()) > MIN_WORDS
                )
                page.screenshot(path=parsed.picture)


def _talk(path: Path) -> Path:
    """Write the clips one after the other, with pauses."""
    parts: list[np.ndarray] = []
    rate_hz = 0
    for name in CLIPS:
        samples, rate_hz = soundfile.read(ASSETS / name, dtype="float32")
        parts += [samples, np.zeros(round(PAUSE_S * rate_hz), np.float32)]
    soundfile.write(path, np.concatenate(parts), rate_hz)
    return path


if __name__ == "__main__":
    main()
