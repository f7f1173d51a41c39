"""A wheel of this checkout, built as pip builds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def build_wheel(folder: Path) -> Path:
    """Built in `folder` from a copy, with links as they are in the checkout."""
    source = folder / "source"
    ours = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "fixtures", "suites", "topologies"):
        shutil.copytree(TOP / name, source / name, symlinks=True, ignore=ours)
    for name in ("pyproject.toml", "README.md", "LICENSE", "conftest.py", "pytest.ini"):
        shutil.copy(TOP / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, source], check=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found
