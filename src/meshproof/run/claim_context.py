"""What a concurrent claim is given: its only argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meshproof.claims.evidence import Evidence
from meshproof.install.lifecycle import Installed
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.run.settings import Settings
from meshproof.workloads.testbed.lifecycle import FreshPods, TestBed
from meshproof.workloads.testbed.shared import SharedTestBed


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimContext:
    """The mesh, what was read of it, and what claims share; `evidence` and `now` (its beginning) are the claim's own.

    `snapshot` is one reading of all clusters. `runner_access` is how gateways are called from outside of the mesh.
    """

    mesh: Mesh
    snapshot: Snapshot
    installed: Installed
    evidence: Evidence
    now: datetime
    provider_name: str
    runner_access: RunnerAccess
    settings: Settings
    shared: SharedTestBed

    @property
    def test_bed(self) -> TestBed:
        """Services of our own with a probe in each cluster, when they are there.

        Raises `ClaimFailed` if the mesh lets none be made, and `Broken` without `Isolation.PUSHES_CONFIG`.
        """
        return self.shared.test_bed()

    @property
    def fresh_pods(self) -> FreshPods:
        """A new pod in each cluster, on their way. Raises `Broken` without `Isolation.PUSHES_CONFIG`."""
        return self.shared.fresh_pods()
