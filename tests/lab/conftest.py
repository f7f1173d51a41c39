"""What lab tests share: root is needed, and every lab they start is gone afterwards, whatever happened."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from meshproof.core.model import ClusterName
from meshproof.core.progress import LineNarrator, Narrator
from meshproof.providers.lab import api as labs
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab.api import Lab

CLUSTERS = (ClusterName("east"), ClusterName("west"))


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("lab tests start real clusters, which needs root")


@pytest.fixture(scope="session")
def narrator(pytestconfig: pytest.Config) -> Narrator:
    """Tells on the real terminal: the first lab test may build for ten minutes."""
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert capture is not None

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    return LineNarrator(write)


@pytest.fixture(scope="session")
def lab(narrator: Narrator) -> Iterator[Lab]:
    """One lab for the tests that do not end it. Named by process, so that two test runs do not collide."""
    for left in remains.abandoned():
        if left.lab.startswith(("test-", "scratch-")):
            remains.clear(left.lab)
    name = f"test-{os.getpid()}"
    started = labs.up(name, CLUSTERS, narrator, stays=False)
    yield started
    assert labs.down(name, narrator), "the lab was gone before its end"
    assert not remains.find_remains(name)


@pytest.fixture
def scratch_name() -> Iterator[str]:
    """The name of a lab that a test may start and ruin."""
    name = f"scratch-{os.getpid()}"
    yield name
    remains.clear(name)
