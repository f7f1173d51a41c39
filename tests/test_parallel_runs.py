"""Runs that are spread over processes (`-n`), with made-up meshes: real pytest, real workers, no cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})

import pytest

pytest_plugins = [
    "fixtures.options", "fixtures.topology", "fixtures.narration", "fixtures.provider", "fixtures.report",
    "fixtures.allure_results", "fixtures.junit", "fixtures.mesh", "fixtures.worker", "fixtures.concurrent_claims",
    "fixtures.faults", "fixtures.diagram", "fixtures.parallel",
]

def told(text):
    with Path("told.txt").open("a") as file:
        file.write(f"{{text}}\\n")

def pytest_configure():
    from fixtures.stagehand import Stagehand
    from meshproof.run.handover import handed_over
    from meshproof.install.lifecycle import Installed
    from tests.fakes import toolbox
    from xdist.workermanage import NodeManager

    NodeManager.EXIT_TIMEOUT = 1
    def make(self, topology):
        told(f"mesh {{topology.name}}")
        self._narrator.say(f"mesh {{topology.name}} is made")
        if topology.name in os.environ.get("NO_MESH_OF", ""):
            raise RuntimeError("no room")
        return handed_over("lab", (), toolbox(), Installed(remotes=(), steps_s={{}}, elapsed_s=0.0))

    Stagehand.make = make
    Stagehand.tidy = lambda self, disrupted: told(f"tidy {{disrupted}}")
    Stagehand.outlived = property(lambda self: "OUTLIVED" in os.environ)
    Stagehand.close = lambda self, cut_short, disrupted: told(f"close {{cut_short}} {{disrupted}}")

class Kube:
    name = "cluster1"
    requests = {{}}

@pytest.fixture(scope="session")
def mesh(request, topology, handover):
    from fixtures.report import FACTS
    kube = Kube()
    request.config.stash[FACTS].count([kube])
    kube.requests = {{"GET": 2}}
    yield topology.name
    told(f"left {{topology.name}} by {{os.environ['PYTEST_XDIST_WORKER']}}")

@pytest.fixture(scope="session")
def snapshot(mesh):
    return None

@pytest.fixture(scope="session")
def runner_access():
    return None

@pytest.fixture(autouse=True)
def _where(request):
    told(f"begin {{request.node.name}} {{os.environ['PYTEST_XDIST_WORKER']}}")
    yield
    told(f"end {{request.node.name}} {{os.environ['PYTEST_XDIST_WORKER']}}")
"""

BEGIN = """
import os, signal, threading, time
import pytest
from conftest import told as tell
from fixtures.report import FACTS
from meshproof.claims.claim import REMOTES, Isolation, Registry, claim
from meshproof.core.errors import Broken, ClaimFailed

registry = Registry()
told = dict(promised_by="nobody", hint="look there", registry=registry)
"""

TRUST = (
    BEGIN
    + """
@claim("TRUST-01", "it holds", **told)
def test_good(context):
    context.evidence.figures["it"] = {"requests": 3, "seconds": 1.5}
    context.evidence.attach("seen", "what was seen")

@claim("TRUST-02", "it does not hold", **told)
def test_bad(context):
    raise ClaimFailed("two roots\\n  last seen   AB:CD")

@claim("CONTROL-01", "remotes only", needs=REMOTES, **told)
def test_remotes(context):
    pass
"""
)

GATEWAYS = (
    BEGIN
    + """
@claim("GATEWAYS-01", "nobody is beside it", isolation=Isolation.EXCLUSIVE, **told)
def test_alone(context):
    pass

@claim("GATEWAYS-02", "it pushes", serial=True, **told)
def test_pushes(mesh, narrator):
    narrator.say("something is pushed")

@claim("GATEWAYS-03", "it is easy", **told)
def test_easy(context):
    pass
"""
)

FAILOVER = (
    BEGIN
    + """
@pytest.fixture
def rebuilt(request):
    return request.config.stash[FACTS].rebuilt

@claim("FAILOVER-01", "it survives", disruptive=True, **told)
def test_one(mesh, rebuilt):
    rebuilt.append("it was ill")
    if os.environ.get("KILL") == "once":
        os.kill(os.getpid(), signal.SIGKILL)

@claim("FAILOVER-02", "it survives too", disruptive=True, **told)
def test_two(mesh):
    if os.environ.get("KILL") == "always":
        os.kill(os.getpid(), signal.SIGKILL)

@claim("FAILOVER-03", "it survives that as well", disruptive=True, **told)
def test_three(mesh):
    pass
"""
)


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\npythonpath = .\naddopts = --import-mode=importlib\n"
        "markers =\n    claim(code): a claim\n    disruptive: it breaks things"
    )
    for suite, text in (("trust", TRUST), ("gateways", GATEWAYS), ("failover", FAILOVER)):
        folder = pytester.mkdir(suite)
        (folder / f"test_{suite}.py").write_text(text)
    return pytester


def results_of(run: pytest.Pytester) -> dict[str, dict[str, str]]:
    claims = {name: told["claims"] for name, told in verdict_of(run)["topologies"].items()}
    return {name: {code: row["result"] for code, row in rows.items()} for name, rows in claims.items()}


def verdict_of(run: pytest.Pytester) -> dict[str, Any]:
    read = yaml.safe_load((run.path / "reports" / "verdict.yaml").read_text())
    assert isinstance(read, dict)
    return read


def told(run: pytest.Pytester) -> list[str]:
    return (run.path / "told.txt").read_text().splitlines()


ON_SAMENET = {
    "CONTROL-01": "NOT_APPLICABLE",
    "FAILOVER-01": "SUCCEEDED",
    "FAILOVER-02": "SUCCEEDED",
    "FAILOVER-03": "SUCCEEDED",
    "GATEWAYS-01": "SUCCEEDED",
    "GATEWAYS-02": "SUCCEEDED",
    "GATEWAYS-03": "SUCCEEDED",
    "TRUST-01": "SUCCEEDED",
    "TRUST-02": "FAILED",
}


def test_two_workers_prove_what_one_process_does(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2")
    result.assert_outcomes(passed=7, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*multi-primary-samenet is made",
            "*something is pushed  [[]gw0[]]",
            "TRUST-02 it does not hold: two roots",
            "API requests: 4 (cluster1 4)",
            "picture: multi-primary-samenet.svg beside it",
        ]
    )
    assert results_of(run) == {"multi-primary-samenet": ON_SAMENET}
    read = verdict_of(run)
    assert read["api_requests"]["verbs"] == {"GET": 4}
    assert read["rebuilt"] == ["it was ill"]
    claims = read["topologies"]["multi-primary-samenet"]["claims"]
    assert claims["TRUST-01"]["figures"] == {"it": {"requests": 3, "seconds": 1.5}}
    assert claims["CONTROL-01"]["reason"] == "multi-primary-samenet: every cluster is a primary"
    evidence = run.path / "reports" / "evidence" / "multi-primary-samenet" / "TRUST-01" / "seen.txt"
    assert evidence.read_text() == "what was seen"
    stories = [json.loads(p.read_text()) for p in (run.path / "reports" / "allure-results").glob("*-result.json")]
    assert len(stories) == 9


def test_phases_follow_each_other_on_one_mesh_after_the_other(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("--topology=all", "-n", "3", "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = told(run)
    names = ["multi-primary-multinet", "multi-primary-samenet", "primary-remote-multinet", "primary-remote-samenet"]
    meshes = [lines.index(f"mesh {name}") for name in names]
    assert meshes == sorted(meshes)
    for name, start, end in zip(names, meshes, [*meshes[1:], lines.index("close False False")], strict=True):
        events = lines[start + 1 : end]
        assert all(name in event for event in events), "something of another topology came between"
        assert len([event for event in events if event.startswith("end ")]) == (9 if "remote" in name else 8)
        last = [event for event in events if event.startswith("end ")][-3:]
        assert [event.split()[1].partition("[")[0] for event in last] == ["test_one", "test_two", "test_three"]
        assert len({event.split()[2] for event in last}) == 1
        before = [event for event in events if event not in last and "test_alone" not in event]
        assert events[:2] == [f"begin test_alone[{name}] gw0", f"end test_alone[{name}] gw0"]
        assert len({event.split()[2] for event in before if event.startswith("end ")}) > 1
        assert {event.split()[-1] for event in events if event.startswith("left ")} >= {"gw0", "gw1"}


def test_a_killed_worker_leaves_one_broken_claim_and_another_goes_on(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL", "once")
    result = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2")
    result.assert_outcomes(passed=6, failed=1, skipped=1, errors=1)
    reason = "worker gw0: it died (Not properly terminated) while it was proving this"
    result.stdout.fnmatch_lines(
        [
            "FAILOVER-01 BROKEN, so nothing is known about: it survives",
            f"  {reason}",
            f"BROKEN  FAILOVER-01 on multi-primary-samenet: {reason}",
        ]
    )
    assert results_of(run) == {"multi-primary-samenet": ON_SAMENET | {"FAILOVER-01": "BROKEN"}}
    after = told(run)[told(run).index("tidy True") + 1 :]
    assert after[:2] == ["begin test_two[multi-primary-samenet] gw2", "end test_two[multi-primary-samenet] gw2"]
    assert after[-1] == "close False False"


def test_what_no_worker_can_prove_any_more_is_broken_in_every_report(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL", "always")
    result = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2", "--max-worker-restart=0")
    result.assert_outcomes(passed=5, failed=1, skipped=1, errors=2)
    broken = {"FAILOVER-02": "BROKEN", "FAILOVER-03": "BROKEN"}
    assert results_of(run) == {"multi-primary-samenet": ON_SAMENET | broken}
    reasons = ["it died (Not properly terminated) while it was proving this", "and no other takes its place"]
    junit = (run.path / "reports" / "junit.xml").read_text()
    assert [junit.count(reason) for reason in reasons] == [2, 2]
    assert junit.count('<property name="claim" value="FAILOVER-03"') == 1
    stories = [json.loads(p.read_text()) for p in (run.path / "reports" / "allure-results").glob("*-result.json")]
    labels = [{label["name"]: label["value"] for label in story["labels"]} for story in stories]
    assert {told["epic"] for told in labels} == {"multi-primary-samenet"}
    assert sorted(told["story"] for told in labels) == sorted(ON_SAMENET)
    assert sorted(story["status"] for story in stories) == ["broken"] * 2 + ["failed"] + ["passed"] * 5 + ["skipped"]


def test_a_mesh_that_cannot_be_made_breaks_its_claims_and_no_others(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_MESH_OF", "multi-primary-samenet")
    run.runpytest_subprocess("--topology=all", "-n", "2", "-k", "TRUST-01 or FAILOVER-01")
    assert {name: set(rows.values()) for name, rows in results_of(run).items()} == {
        "multi-primary-multinet": {"SUCCEEDED"},
        "multi-primary-samenet": {"BROKEN"},
        "primary-remote-multinet": {"SUCCEEDED"},
        "primary-remote-samenet": {"SUCCEEDED"},
    }
    reason = verdict_of(run)["topologies"]["multi-primary-samenet"]["claims"]["TRUST-01"]["reason"]
    assert reason == "the mesh could not be made: RuntimeError: no room"


def test_the_first_failure_ends_the_run_and_can_be_run_again(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2", "-x")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    assert not any("test_one" in event for event in told(run))
    assert told(run)[-1] == "close True False"
    (run.path / "told.txt").unlink()
    again = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2", "--lf")
    again.assert_outcomes(failed=1)
    assert [event.split()[1] for event in told(run) if event.startswith("begin")] == ["test_bad[multi-primary-samenet]"]


def test_no_mesh_is_made_where_nothing_is_to_be_proven(run: pytest.Pytester) -> None:
    collected = run.runpytest_subprocess("--topology=all", "-n", "2", "--collect-only", "-q", "-k", "TRUST-01")
    assert sum("::test_good[" in line for line in collected.stdout.lines) == 4
    nothing = run.runpytest_subprocess("--topology=multi-primary-samenet", "-n", "2", "-k", "TRUST-99")
    assert nothing.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert told(run) == ["close False False"]


def test_a_fault_is_healed_when_its_time_is_over(run: pytest.Pytester) -> None:
    """A worker's tests run in its main thread, where a signal can end them."""
    run.makeini((run.path / "tox.ini").read_text() + "\ntimeout_method = signal\ntimeout_func_only = true")
    run.makepyfile(
        test_slow=BEGIN
        + """
@claim("FAILOVER-04", "it ends", disruptive=True, **told)
def test_slow(mesh):
    tell("broken")
    try:
        signal.pause()
    finally:
        tell("healed")
"""
    )
    result = run.runpytest_subprocess("test_slow.py", "--topology=multi-primary-samenet", "-n", "1", "--timeout=1")
    result.assert_outcomes(failed=1)
    assert results_of(run) == {"multi-primary-samenet": {"FAILOVER-04": "BROKEN"}}
    events = told(run)
    assert events[events.index("broken") + 1] == "healed"


def test_after_an_interrupt_workers_have_time_to_take_back_what_outlives_the_run(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLIVED", "yes")
    (run.path / "gateways" / "test_gateways.py").unlink()
    run.makepyfile(
        test_long=BEGIN
        + """
@claim("FAILOVER-04", "it ends", disruptive=True, **told)
def test_long(mesh):
    try:
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # as xdist does after a while
        time.sleep(3)
        tell("healed")
"""
    )
    result = run.runpytest_subprocess("test_long.py", "--topology=multi-primary-samenet", "-n", "2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    events = [event for event in told(run) if not event.startswith(("begin", "end"))]
    assert events[1:] == ["healed", "left multi-primary-samenet by gw0", "close True True"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--dist=loadfile", "ERROR: --dist=loadfile: claims are spread in a way of their own*"),
        ("--tx=ssh=far", "ERROR: --tx, --px: workers must be on this machine*"),
    ],
)
def test_other_ways_to_spread_claims_are_refused(run: pytest.Pytester, argument: str, words: str) -> None:
    more = ["-n", "2"] if argument.startswith("--dist") else ["-d"]
    result = run.runpytest_subprocess("--topology=multi-primary-samenet", argument, *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words, "  repair: *"])


def test_what_has_a_mesh_to_itself_is_not_spread(run: pytest.Pytester) -> None:
    run.makepyfile(test_other="def test_other(topology):\n    pass")
    result = run.runpytest_subprocess("test_other.py", "--topology=multi-primary-samenet", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: -n: test_other.py::test_other*proves no claim*", "  repair: leave -n away"])
