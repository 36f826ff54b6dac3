"""Print what an extra of pyproject.toml needs, for `pip install --requirement`.

    python requirements.py pyproject.toml EXTRA

So that an image's layer of dependencies does not change with the code. Uses the standard library
alone: it runs before anything is installed.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extra: str) -> list[str]:
    """Give the project's own dependencies and those of an extra."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), sys.argv[2])) + "\n")
