"""The trial of one mutant, from a healthy mesh back to a healthy mesh."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from meshproof.calibration.outcome import Fate, TrialOutcome, judge_mutant
from meshproof.claims.suite_run import run_suites
from meshproof.core.errors import MeshproofError, Unavailable
from meshproof.core.progress import Narrator
from meshproof.core.versions import next_release
from meshproof.faults.editor import Prevented
from meshproof.faults.fault import Fault, inject
from meshproof.faults.heal import heal
from meshproof.faults.journal import Journal
from meshproof.health.mesh import must_be_healthy
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl


class Trial:
    """Injects a fault into a healthy mesh, runs the suites as a user would, heals it, and proves the mesh healthy."""

    def __init__(
        self,
        fault: Fault,
        mesh: Mesh,
        journal: Journal,
        machine_control: MachineControl | None,
        narrator: Narrator,
        *,
        lab_name: str,
        report_dir: Path,
        root: Path,
    ) -> None:
        self.fault = fault
        self.mesh = mesh
        self.journal = journal
        self.machine_control = machine_control
        self.narrator = narrator
        self.lab_name = lab_name
        self.report_dir = report_dir / "sensitivity" / mesh.topology.name / fault.id
        self.root = root

    def run(self) -> TrialOutcome:
        """Returns the outcome. Afterwards the mesh is healthy: healed, or reinstalled (the outcome reports that)."""
        begin = time.monotonic()
        broken = begin
        try:
            with self.narrator.step(f"{self.fault.id}: {self.fault.sentence}"):
                inject(self.fault, self.mesh, self.journal, self.machine_control)
            broken = time.monotonic()
            outcome = self._verify()
        except Prevented as problem:
            broken = max(broken, time.monotonic())
            outcome = self._outcome(Fate.PREVENTED, str(problem))
        except Unavailable as problem:
            outcome = self._outcome(Fate.NOT_HERE, str(problem))
        except MeshproofError as problem:
            outcome = self._outcome(Fate.TROUBLE, str(problem))
        finally:
            healing = time.monotonic()
            trouble = self._heal()
        outcome = replace(outcome, inject_s=broken - begin, heal_s=time.monotonic() - healing)
        if trouble:
            reason = f"{outcome.explanation}; healing failed, so the mesh was reinstalled: {trouble}".removeprefix("; ")
            outcome = replace(outcome, fate=Fate.TROUBLE, reason=reason)
        return outcome

    def _verify(self) -> TrialOutcome:
        needs_upgrade = self.fault.before_upgrade or bool(self.fault.rehearsals)
        with self.narrator.step(f"{self.fault.id}: the suites"):
            suite_run = run_suites(
                self.root,
                self.mesh.topology.name,
                self.lab_name,
                self.report_dir,
                drills=self.fault.drills,
                rehearsals=self.fault.rehearsals,
                upgrade_to=next_release(self.mesh.toolbox.istio_version) if needs_upgrade else "",
            )
        return judge_mutant(self.fault, self.mesh.topology.name, suite_run)

    def _outcome(self, fate: Fate, reason: str) -> TrialOutcome:
        return TrialOutcome(fault=self.fault.id, topology=self.mesh.topology.name, fate=fate, reason=reason)

    def _heal(self) -> str:
        """Heal; if that fails, reinstall the mesh and return the error."""
        try:
            with self.narrator.step(f"{self.fault.id}: healed, and the mesh is healthy"):
                heal(self.mesh, self.journal, self.machine_control)
                must_be_healthy(self.mesh)
        except MeshproofError as problem:
            self.narrator.say(f"healing {self.fault.id} failed: {problem}")
            uninstall_mesh(self.mesh, self.narrator)
            install_mesh(self.mesh, self.narrator)
            return str(problem)
        return ""
