"""The trial of one variant, from a healthy mesh back to a healthy mesh."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshproof.calibration.outcome import Fate, judge_mutant
from meshproof.calibration.settling import settle
from meshproof.calibration.specificity import VariantOutcome, Verdict, judge_variant, without_known_red
from meshproof.calibration.variants.variant import Variant, apply_variant
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun, run_suites
from meshproof.core.errors import MeshproofError, Unavailable
from meshproof.core.progress import Narrator
from meshproof.faults.editor import Prevented
from meshproof.faults.fault import Fault, inject
from meshproof.faults.heal import heal
from meshproof.faults.journal import Journal
from meshproof.install.attach import add_probes, remove_probes
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.install.marker import write_markers
from meshproof.install.own_namespaces import PROBE_NAMESPACES
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl

FOLDER: Final = "specificity"


def attached(mesh: Mesh) -> tuple[str, ...]:
    """The options with which a user would have these clusters verified: by their kubeconfigs, as somebody else's."""
    files = ":".join(dict.fromkeys(str(cluster.access.kubeconfig) for cluster in mesh.clusters))
    contexts = (f"--context={cluster.name}={cluster.access.context}" for cluster in mesh.clusters)
    images = (f"--{purpose}-image={image}" for purpose, image in mesh.toolbox.images.items())
    istioctl = (f"--istioctl={mesh.toolbox.istioctl}",) if mesh.toolbox.istioctl else ()
    return (f"--kubeconfig={files}", *contexts, *images, *istioctl, "--allow-credentials")


def verify_attached(root: Path, mesh: Mesh, lab_name: str, report_dir: Path) -> SuiteRun:
    """Run the suites on the mesh as its user would."""
    return run_suites(root, mesh.topology.name, lab_name, report_dir, where=attached(mesh))


def is_detected_by_a_pass(fault: Fault) -> bool:
    """Whether claims that break nothing must detect a fault, without a drill and without an upgrade."""
    return not (fault.drills or fault.rehearsals or fault.before_upgrade)


@contextmanager
def without_probe_namespaces(mesh: Mesh, narrator: Narrator) -> Iterator[None]:
    """The mesh without meshproof's own namespaces, as its users have it: each run makes them, and they are new then."""
    remove_probes(dict.fromkeys(mesh.clusters, PROBE_NAMESPACES), narrator)
    try:
        yield
    finally:
        add_probes(mesh, narrator, lasting=True)
        write_markers(mesh)


class VariantTrial:
    """Makes a variant of a healthy mesh without probes, runs the suites as a user would, undoes it, and proves the mesh
    healthy. Then, or instead, faults are injected on top."""

    def __init__(
        self,
        variant: Variant,
        mesh: Mesh,
        journal: Journal,
        machine_control: MachineControl | None,
        narrator: Narrator,
        *,
        usual: Mapping[str, Result],
        mutants: Sequence[Fault],
        lab_name: str,
        report_dir: Path,
        root: Path,
    ) -> None:
        self.variant = variant
        self.mesh = mesh
        self.journal = journal
        self.machine_control = machine_control
        self.narrator = narrator
        self.usual = usual
        self.mutants = mutants
        self.lab_name = lab_name
        self.report_dir = report_dir / FOLDER / mesh.topology.name / variant.id
        self.root = root

    def run(self) -> VariantOutcome:
        """Returns the outcome. Afterwards the mesh is healthy: undone, or reinstalled (the outcome reports that)."""
        begin = time.monotonic()
        made = begin
        try:
            if self.variant.with_app:
                add_probes(self.mesh, self.narrator, lasting=True)
            begin = time.monotonic()
            with self.narrator.step(f"{self.variant.id}: {self.variant.sentence}"):
                apply_variant(self.variant, self.mesh, self.journal, self.machine_control)
            made = time.monotonic()
            outcome = self._verify()
            outcome = self._with_mutants(outcome)
        except Prevented as problem:
            outcome = self._outcome(Verdict.TROUBLE, f"it is not legal: {problem}")
        except Unavailable as problem:
            outcome = self._outcome(Verdict.NOT_HERE, str(problem))
        except MeshproofError as problem:
            outcome = self._outcome(Verdict.TROUBLE, str(problem))
        finally:
            made = max(begin, made)
            undoing = time.monotonic()
            trouble = self._undo()
        outcome = replace(outcome, apply_s=made - begin, heal_s=time.monotonic() - undoing)
        if trouble:
            reason = f"{outcome.explanation}; undoing failed, so the mesh was reinstalled: {trouble}".removeprefix("; ")
            outcome = replace(outcome, verdict=Verdict.TROUBLE, reason=reason)
        return outcome

    def _verify(self) -> VariantOutcome:
        with self.narrator.step(f"{self.variant.id}: the suites"):
            run = verify_attached(self.root, self.mesh, self.lab_name, self.report_dir)
        return judge_variant(self.variant, self.mesh.topology.name, run, self.usual)

    def _with_mutants(self, outcome: VariantOutcome) -> VariantOutcome:
        """The outcome after each mutant on top; one that survives makes a green variant a blind one."""
        fates: dict[str, str] = {}
        blind: list[str] = []
        for fault in self.mutants:
            if fault.not_here(self.mesh.topology) is None and is_detected_by_a_pass(fault):
                fate, why = self._mutant(fault, outcome)
                fates[fault.id] = f"{fate}{f': {why}' if why else ''}"
                blind += [f"{fault.id} {fate} ({why})"] if not fate.good else []
        outcome = replace(outcome, mutants=fates)
        if blind and outcome.verdict.good:
            outcome = replace(outcome, verdict=Verdict.BLIND, reason="; ".join(blind))
        return outcome

    def _mutant(self, fault: Fault, outcome: VariantOutcome) -> tuple[Fate, str]:
        """On top of the variant: the demonstration service is there first, since faults may be in its namespace."""
        made = add_probes(self.mesh, self.narrator, lasting=True)
        try:
            with self.narrator.step(f"{self.variant.id}: {fault.id} on top: {fault.sentence}"):
                inject(fault, self.mesh, self.journal, self.machine_control)
                run = verify_attached(self.root, self.mesh, self.lab_name, self.report_dir / fault.id)
            judged = judge_mutant(fault, self.mesh.topology.name, without_known_red(run, outcome.red, self.variant))
            fate, why = judged.fate, judged.explanation
        except Prevented as problem:
            fate, why = Fate.PREVENTED, str(problem)
        except Unavailable as problem:
            fate, why = Fate.NOT_HERE, str(problem)
        except MeshproofError as problem:  # says nothing about the variant itself
            fate, why = Fate.TROUBLE, str(problem)
        finally:
            heal(self.mesh, self.journal, self.machine_control, only=(fault.id,))
            if not self.variant.with_app:
                remove_probes(made, self.narrator)
            settle(self.mesh)
        return fate, why

    def _outcome(self, verdict: Verdict, reason: str) -> VariantOutcome:
        return VariantOutcome(variant=self.variant.id, topology=self.mesh.topology.name, verdict=verdict, reason=reason)

    def _undo(self) -> str:
        """Undo; if that fails, reinstall the mesh and return the error."""
        nothing = dict.fromkeys(self.mesh.clusters, PROBE_NAMESPACES)
        try:
            with self.narrator.step(f"{self.variant.id}: undone, and the mesh is healthy"):
                heal(self.mesh, self.journal, self.machine_control)
                remove_probes(nothing, self.narrator)
                settle(self.mesh)
        except MeshproofError as problem:
            self.narrator.say(f"undoing {self.variant.id} failed: {problem}")
            uninstall_mesh(self.mesh, self.narrator)
            install_mesh(self.mesh, self.narrator)
            remove_probes(nothing, self.narrator)
            return str(problem)
        return ""
