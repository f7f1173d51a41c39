"""The only argument of a concurrent claim."""

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
    """The mesh, a snapshot of it, and what claims share; `evidence` and `now` (its start) are the claim's own.

    `snapshot` is of all clusters. `runner_access` calls gateways from outside of the mesh.
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
        """The test bed: our own Services with a probe in each cluster. Waits until it is ready.

        Raises `ClaimFailed` if it cannot be created in this mesh, and `Broken` without `Isolation.PUSHES_CONFIG`.
        """
        return self.shared.test_bed()

    @property
    def fresh_pods(self) -> FreshPods:
        """A new pod in each cluster, being created. Raises `Broken` without `Isolation.PUSHES_CONFIG`."""
        return self.shared.fresh_pods()
