"""Runs with `-n`, on made-up meshes: real pytest, real workers, no cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproof.core.topology import available
from meshproof.core.waiting import NotYet, eventually

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 120.0
"""Within which each of these runs must end."""

CONFTEST = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})

import pytest

pytest_plugins = [
    "fixtures.options", "fixtures.topology", "fixtures.narration", "fixtures.provider", "fixtures.report",
    "fixtures.folded_reports",
    "fixtures.allure_results", "fixtures.junit", "fixtures.mesh", "fixtures.concurrent_claims", "fixtures.drills",
    "fixtures.diagram", "fixtures.worker", "fixtures.parallel",
]

def note(text):
    with Path("notes.txt").open("a") as file:
        file.write(f"{{text}}\\n")

from meshproof.providers.lab import api as lab
from meshproof.providers.lab import capacity
from meshproof.providers.lab import cleanup as remains

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell has ignored
room = int(os.environ.get("ROOM", "4"))
capacity.limits = lambda most: (capacity.Limit(labs=room, found=f"room for {{room}}", repair="make room"),)
capacity.running = lab.running = lambda name: None
lab.prepare_machine = lambda releases, narrator: note(f"prepare {{releases[0].number}}")
remains.find_remains = lambda name: name
lab.save_logs = lambda folder, target: None
lab.down = lambda name, narrator: note(f"down {{name}}")

class Kube:
    name = "cluster1"
    requests = {{}}

@pytest.fixture(scope="session")
def clusters(settings):
    from fixtures.provider import bad_input_ends_the_run
    from meshproof.core.errors import BadInput
    with bad_input_ends_the_run():
        if settings.lab_name == os.environ.get("REFUSED"):
            raise BadInput(f"lab {{settings.lab_name}}", "another run is using it", "wait")
    note(f"clusters {{settings.lab_name}}")
    yield settings.lab_name
    note(f"gone {{settings.lab_name}}")

@pytest.fixture(scope="session")
def mesh(request, topology, clusters):
    from fixtures.report import FACTS
    facts, kube = request.config.stash[FACTS], Kube()
    kube.requests = {{"GET": 2}}
    facts.count([kube])
    facts.provider, facts.kubernetes = "lab", {{"cluster1": "v1.36.1"}}
    note(f"mesh {{topology.name}} {{clusters}}")
    yield topology.name
    kube.requests["DELETE"] = 1
    note(f"left {{topology.name}} {{clusters}}")

@pytest.fixture(scope="session")
def installed():
    return None

@pytest.fixture(scope="session")
def provider_name():
    return "lab"

@pytest.fixture(scope="session")
def snapshot(mesh):
    return None

@pytest.fixture(scope="session")
def runner_access():
    return None

@pytest.fixture(autouse=True)
def _where(request):
    note(f"begin {{request.node.name}} {{os.environ.get('PYTEST_XDIST_WORKER', 'one')}}")
"""

BEGIN = """
import os, signal
import pytest
from fixtures.report import FACTS
from meshproof.claims.claim import REMOTES, Isolation, Registry, claim
from meshproof.core.errors import ClaimFailed
from meshproof.claims.claim import Isolation

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
    rebuilt.append(f"{mesh} was not healthy")

@claim("FAILOVER-02", "it survives too", disruptive=True, **told)
def test_two(mesh):
    if os.environ.get("KILL", "nothing") in mesh:
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


def pytest_in(run: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return run.runpytest_subprocess(*arguments, timeout=LIMIT_S)


def verdict_of(run: pytest.Pytester, folder: str = "reports") -> dict[str, Any]:
    read = yaml.safe_load((run.path / folder / "verdict.yaml").read_text())
    assert isinstance(read, dict)
    return read


def results_of(run: pytest.Pytester) -> dict[str, dict[str, str]]:
    claims = {name: told["claims"] for name, told in verdict_of(run)["topologies"].items()}
    return {name: {code: row["result"] for code, row in rows.items()} for name, rows in claims.items()}


def notes(run: pytest.Pytester) -> list[str]:
    path = run.path / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


def stories(folder: Path) -> Counter[tuple[str, str, str]]:
    """Epic, story and status of each of Allure's results."""
    read = [json.loads(path.read_text()) for path in (folder / "allure-results").glob("*-result.json")]
    labels = [{label["name"]: label["value"] for label in each["labels"]} | {"status": each["status"]} for each in read]
    return Counter((each["epic"], each["story"], each["status"]) for each in labels)


def cases(folder: Path) -> Counter[tuple[str, str, str]]:
    """Class, name and outcome of each of JUnit's test cases."""
    read = ElementTree.parse(folder / "junit.xml").iter("testcase")
    return Counter(
        (
            case.get("classname", ""),
            case.get("name", ""),
            ",".join(part.tag for part in case if part.tag != "properties"),
        )
        for case in read
    )


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
SAMENET, MULTINET = "multi-primary-samenet", "multi-primary-multinet"


def test_workers_report_what_one_process_reports(run: pytest.Pytester) -> None:
    one = pytest_in(run, "--topology=all", "--report-dir=one")
    many = pytest_in(run, "--topology=all", "-n", "2", "--report-dir=many")
    assert one.parseoutcomes() == many.parseoutcomes()
    assert one.ret == many.ret == pytest.ExitCode.TESTS_FAILED
    first, second = verdict_of(run, "one"), verdict_of(run, "many")
    for read in (first, second):
        for told in read["topologies"].values():
            for claim in told["claims"].values():
                claim.pop("duration_s")
        read["rebuilt"].sort()
        del read["started"], read["duration_s"]
    assert first == second
    assert second["api_requests"]["verbs"] == {"DELETE": 4, "GET": 8}, "those of clean-up too"
    assert len(second["rebuilt"]) == 4
    assert stories(run.path / "one") == stories(run.path / "many")
    assert cases(run.path / "one") == cases(run.path / "many")
    evidence = "evidence/multi-primary-samenet/TRUST-01/seen.txt"
    assert (run.path / "many" / evidence).read_text() == "what was seen"
    assert all((run.path / "many" / f"{name}.svg").exists() for name in available())
    table = one.outlines[one.outlines.index(next(line for line in one.outlines if line.startswith("topology"))) :][:5]
    assert set(table) <= set(many.outlines)
    many.stdout.fnmatch_lines(["meshproof: a worker for each of the labs default-1, default-2"])
    many.stdout.fnmatch_lines(["primary-remote-samenet *something is pushed", "API requests: 12 (cluster1 12)"])


def test_a_worker_proves_one_topology_after_the_other_on_its_own_clusters(run: pytest.Pytester) -> None:
    pytest_in(run, "--topology=all", "-n", "2", "-q")
    events = notes(run)
    assert events[0].startswith("prepare ")
    assert Counter(event for event in events if event.startswith("clusters")) == {
        "clusters default-1": 1,
        "clusters default-2": 1,
    }
    for name in available():
        tests = [event.split() for event in events if event.startswith("begin") and f"[{name}]" in event]
        assert len({worker for _, _, worker in tests}) == 1
        assert [test.partition("[")[0] for _, test, _ in tests][-3:] == ["test_one", "test_two", "test_three"]
    for lab in ("default-1", "default-2"):
        steps = [event.split()[0] for event in events if event.endswith(lab)]
        assert steps[0] == "clusters"
        assert steps[-1] == "gone"
        assert steps[1:-1] == ["mesh", "left"] * (len(steps) // 2 - 1)


def test_what_a_killed_worker_has_not_reported_is_broken_in_every_report(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL", MULTINET)
    result = pytest_in(run, "--topology=all", "-n", "2")
    found = results_of(run)
    lost = {"FAILOVER-02": "BROKEN", "FAILOVER-03": "BROKEN"}
    assert found[MULTINET] == ON_SAMENET | lost, "what was reported before stays"
    assert found[SAMENET] == ON_SAMENET
    assert set(found) == set(available()), "others went on"
    assert set(found["primary-remote-samenet"].values()) == {"SUCCEEDED", "FAILED"}
    lab = "default-1" if "worker gw0: it died" in result.stdout.str() else "default-2"
    worker = {"default-1": "gw0", "default-2": "gw1"}[lab]
    reason = f"worker {worker}: it died (Not properly terminated) before it could report this"
    result.stdout.fnmatch_lines(
        [
            f"BROKEN  2 claims for one cause, on {MULTINET}:",
            f"        {reason}",
            "        claims: FAILOVER-02, FAILOVER-03",
        ]
    )
    assert {story for story in stories(run.path / "reports") if story[2] == "broken"} == {
        (MULTINET, code, "broken") for code in lost
    }
    assert sorted(name for _, name, kind in cases(run.path / "reports") if kind == "error") == [
        f"test_three[{MULTINET}]",
        f"test_two[{MULTINET}]",
    ]
    events = notes(run)
    after = events[events.index(f"down {lab}") :]
    assert f"clusters {lab}" in after or "prepare" not in after, "the worker in its place may use its lab's name"
    assert not any(f"[{MULTINET}]" in event for event in after), "what it has begun nobody begins again"


def test_without_a_worker_in_its_place_topologies_that_nobody_began_are_broken_too(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL", "net")
    pytest_in(run, "--topology=all", "-n", "2", "--max-worker-restart=0")
    found = results_of(run)
    assert set(found) == set(available())
    assert all(len(rows) == len(ON_SAMENET) for rows in found.values()), "no claim is absent"
    assert all(rows["FAILOVER-03"] == "BROKEN" for rows in found.values())
    claims = verdict_of(run)["topologies"]["primary-remote-samenet"]["claims"]
    assert claims["TRUST-01"]["reason"] == "the workers: none was left to prove this"


def test_a_wrong_value_that_only_a_worker_finds_ends_the_run(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", "default-2")
    result = pytest_in(run, "--topology=all", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "lab default-2: another run is using it" in result.stdout.str() + result.stderr.str()
    assert not verdict_of(run)["go"]
    assert "gone default-1" in notes(run)


def test_the_first_failure_ends_the_run_and_can_be_run_again(run: pytest.Pytester) -> None:
    result = pytest_in(run, "--topology=all", "-n", "2", "-x", "-k", "multi-primary")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*stopping after * failures*"])
    assert not any("test_three" in event for event in notes(run))
    assert {event for event in notes(run) if event.startswith("gone")} == {
        event.replace("clusters", "gone") for event in notes(run) if event.startswith("clusters")
    }
    failed = results_of(run)
    (run.path / "notes.txt").unlink()
    again = pytest_in(run, "--topology=all", "--lf")  # tests have the same ids with and without workers
    assert again.parseoutcomes()["failed"] == sum("TRUST-02" in rows for rows in failed.values())
    assert {event.split()[1].partition("[")[0] for event in notes(run) if event.startswith("begin")} == {"test_bad"}


def test_nothing_is_prepared_where_nothing_is_to_be_proven(run: pytest.Pytester) -> None:
    collected = pytest_in(run, "--topology=all", "-n", "2", "--collect-only", "-q", "-k", "TRUST-01")
    assert sum("::test_good[" in line for line in collected.outlines) == 4
    nothing = pytest_in(run, "--topology=all", "-n", "2", "-k", "TRUST-99")
    assert nothing.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert notes(run) == []


LONG = (
    BEGIN
    + """
@claim("FAILOVER-04", "it ends", disruptive=True, **told)
def test_long(mesh, clusters):
    from conftest import note
    try:
        note(f"broken {clusters}")
        while True:
            signal.pause()
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # a second one, as xdist sends it after a while
        note(f"healed {clusters}")
"""
)


def start_long(run: pytest.Pytester, *more: str) -> subprocess.Popen[bytes]:
    """Two workers that wait in the middle of a claim until they are interrupted."""
    run.makepyfile(test_long=LONG)
    argv = [sys.executable, "-m", "pytest", "test_long.py", "--topology=all", "-k", "multi-primary", "-n", "2", *more]
    started = subprocess.Popen(argv, cwd=run.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def broken() -> None:
        if started.poll() is not None:
            raise AssertionError(f"it ended by itself with {started.returncode}")
        if sum(event.startswith("broken") for event in notes(run)) < 2:
            raise NotYet(f"only {notes(run)}")

    eventually(broken, what="two workers in the middle of a claim", timeout_s=LIMIT_S)
    return started


def both(run: pytest.Pytester, word: str) -> None:
    if {f"{word} default-1", f"{word} default-2"} - set(notes(run)):
        raise NotYet(f"only {notes(run)}")


def test_an_interrupt_of_the_controller_alone_lets_workers_heal_and_take_their_labs_down(run: pytest.Pytester) -> None:
    started = start_long(run)
    os.kill(started.pid, signal.SIGINT)
    assert started.wait(LIMIT_S) == pytest.ExitCode.INTERRUPTED
    both(run, "healed")
    both(run, "gone")


def test_workers_end_when_the_controller_is_killed(run: pytest.Pytester) -> None:
    started = start_long(run)
    started.kill()
    started.wait(LIMIT_S)
    eventually(lambda: both(run, "gone"), what="the workers' clean-up", timeout_s=LIMIT_S)
    both(run, "healed")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--topology=multi-primary-samenet", "-n", "2"], "one topology"),
        (["--topology=all", "-n", "2", "--provider=kubeconfig"], "--provider=kubeconfig has one set of clusters"),
    ],
)
def test_a_run_that_has_nothing_to_spread_is_one_process(
    run: pytest.Pytester, arguments: list[str], reason: str, tmp_path: Path
) -> None:
    config: dict[str, object] = {"contexts": [{"name": name, "context": {}} for name in ("cluster1", "cluster2")]}
    (run.path / "kubeconfig").write_text(yaml.safe_dump(config))
    if "--provider=kubeconfig" in arguments:
        arguments = [*arguments, f"--kubeconfig={run.path / 'kubeconfig'}"]
    result = pytest_in(run, *arguments, "-k", "TRUST-01")
    result.assert_outcomes(passed=4 if "--topology=all" in arguments else 1)
    result.stdout.fnmatch_lines([f"meshproof: -n has nothing to spread ({reason}), so one process proves it"])
    assert {event.split()[-1] for event in notes(run) if event.startswith("begin")} == {"one"}
    assert "clusters default" in notes(run)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-n", "2", "--dist=loadfile"], "ERROR: --dist=loadfile: a worker proves whole topologies"),
        (["-d", "--tx=2*ssh=far"], "ERROR: --tx, --px: workers run their labs on this machine"),
        (["-n", "2", "--mesh=existing"], "ERROR: -n with --mesh=existing: lab default has the mesh of one topology"),
        (["-n", "4"], "ERROR: -n 4: this machine can run 3 labs side by side:"),
        (["-n", "2", "--lab-name=fifteen-letters"], "ERROR: lab name 'fifteen-letters-1': must be 1 to 16*"),
    ],
)
def test_what_workers_cannot_do_is_refused_before_anything_starts(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setenv("ROOM", "3")
    result = pytest_in(run, "--topology=all", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words, "  repair: *"])
    assert notes(run) == []


def test_auto_is_as_many_workers_as_fit(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOM", "3")
    pytest_in(run, "--topology=all", "-n", "auto", "-k", "TRUST-01").assert_outcomes(passed=4)
    used = {event for event in notes(run) if event.startswith("clusters")}
    assert used == {f"clusters default-{number}" for number in (1, 2, 3)}


def test_what_needs_clusters_for_itself_is_refused(run: pytest.Pytester) -> None:
    run.makepyfile(test_other="def test_other(topology):\n    pass")
    result = pytest_in(run, "test_other.py", "--topology=all", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: -n: test_other.py::test_other* proves no claim, and needs clusters for itself"]
    )
