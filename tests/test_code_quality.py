"""The rules of style are held by programs, over everything that is ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "argv",
    [
        ("ruff", "check", "--no-fix"),
        ("ruff", "format", "--check", "--diff", "--quiet"),
        ("mypy", "--no-error-summary"),
        ("lint-imports", "--no-cache"),
    ],
    ids=["ruff check", "ruff format", "mypy", "layers"],
)
def test_nothing_is_found_by(argv: tuple[str, ...]) -> None:
    """Run it as a person would; what it prints is the failure's text."""
    program = Path(sys.executable).parent / argv[0]
    done = subprocess.run([program, *argv[1:]], cwd=TOP, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.fail(f"{' '.join(argv)} (in {TOP}):\n{done.stdout}{done.stderr}", pytrace=False)


def test_the_library_never_imports_pytest() -> None:
    """It must work where pytest is not: `meshproof lab up` and every colleague's own script."""
    code = "import sys, meshproof.cli.main, meshproof.mesh.handles, meshproof.claims.claim, meshproof.pki.issue\n"
    code += "import meshproof.core.statistics\n"
    code += "print(*sorted({'pytest', '_pytest', 'scipy', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
