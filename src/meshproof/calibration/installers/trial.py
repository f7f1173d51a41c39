"""The trial of one installation: clusters of its own, the installation, and `meshproof verify` as its user runs it."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshproof.calibration.installers.catalogue import Installation
from meshproof.calibration.specificity import VariantOutcome, Verdict, judge_variant
from meshproof.calibration.variant_trial import FOLDER
from meshproof.claims.results import Result
from meshproof.claims.suite_run import read_run, run_to_verdict
from meshproof.core.errors import MeshproofError
from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.mesh.handles import Mesh
from meshproof.providers.lab import api as labs

VERIFY_S: Final = 600.0


def try_installation(
    installation: Installation, topology: Topology, lab_name: str, report_dir: Path, narrator: Narrator
) -> VariantOutcome:
    """Start a lab, install, verify, and remove the lab."""
    folder = (report_dir / FOLDER / topology.name / installation.id).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    try:
        lab = labs.up(lab_name, tuple(c.name for c in topology.clusters), narrator, stays=False)
        lab.connect(topology)
        mesh = Mesh.of(topology, lab.clusters, lab.toolbox)
        with narrator.step(f"{installation.id}: {installation.sentence}"), tempfile.TemporaryDirectory() as work:
            installation.make(mesh, Path(work), narrator).run()
        made = time.monotonic()
        with narrator.step(f"{installation.id}: meshproof verify"):
            outcome = _verified(installation, mesh, folder)
        return replace(outcome, apply_s=made - begin, run_s=time.monotonic() - made)
    except MeshproofError as problem:
        return VariantOutcome(
            variant=installation.id, topology=topology.name, verdict=Verdict.TROUBLE, reason=str(problem)
        )
    finally:
        labs.down(lab_name, narrator)


def _verified(installation: Installation, mesh: Mesh, folder: Path) -> VariantOutcome:
    """By its kubeconfigs and contexts alone. What does not apply to the topology is no doing of the installation."""
    files = ":".join(str(cluster.access.kubeconfig) for cluster in mesh.clusters)
    argv = [
        *(sys.executable, "-m", "meshproof.cli.main", "verify", f"--kubeconfig={files}"),
        *(f"--context={cluster.access.context}" for cluster in mesh.clusters),
        *(f"--istioctl={mesh.toolbox.require_istioctl()}", "--allow-credentials", f"--report-dir={folder}"),
    ]
    run_to_verdict("meshproof verify", argv, folder, cwd=folder, limit_s=VERIFY_S)
    run = read_run(folder)
    elsewhere = {c: result for c, result in run.results.items() if result is Result.NOT_APPLICABLE}
    return judge_variant(installation, mesh.topology.name, run, elsewhere)
