"""What must never happen to clusters of others, whatever the command line says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("folder", "provider", "what"),
    [
        ("tests/sensitivity", "kubeconfig", "tests/sensitivity breaks meshes in every way it knows"),
        ("tests/specificity", "kubeconfig", "tests/specificity changes meshes in every legal way it knows"),
        ("tests", "kubeconfig", "tests/s"),
        ("tests/sensitivity", "kind", "tests/sensitivity breaks meshes in every way it knows"),
    ],
)
def test_mutants_and_variants_are_for_the_lab_only(folder: str, provider: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("contexts: []")
    chosen = f"--kubeconfig={tmp_path / 'config'}" if provider == "kubeconfig" else f"--provider={provider}"
    argv = [
        *(sys.executable, "-m", "pytest", folder, "-p", "no:cacheprovider", "--collect-only", "-q"),
        "--topology=multi-primary-samenet",
        chosen,
        "--allow-disruptive",
        f"--report-dir={tmp_path}",
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--provider={provider}: {what}" in done.stderr
