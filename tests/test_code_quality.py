"""The rules of style are held by programs, over everything that is ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "argv",
    [
        ("ruff", "check", "--no-fix"),
        ("ruff", "format", "--check", "--diff", "--quiet"),
        ("mypy", "--no-error-summary"),
        ("lint-imports", "--no-cache"),
    ],
    ids=["ruff check", "ruff format", "mypy", "layers"],
)
def test_nothing_is_found_by(argv: tuple[str, ...]) -> None:
    """Run it as a person would; what it prints is the failure's text."""
    program = Path(sys.executable).parent / argv[0]
    done = subprocess.run([program, *argv[1:]], cwd=TOP, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.fail(f"{' '.join(argv)} (in {TOP}):\n{done.stdout}{done.stderr}", pytrace=False)


RUNNERS = {"run", "call", "check_call", "check_output"}


@pytest.mark.parametrize(
    "path", sorted((TOP / "tests").rglob("*.py")), ids=lambda path: path.relative_to(TOP).as_posix()
)
def test_a_test_waits_for_no_process_without_a_bound(path: Path) -> None:
    """A test that hangs says nothing. What reads a process's output has its bound from `tests.processes.started`."""
    text = path.read_text()
    calls = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)] if "subprocess" in text else []
    unbounded = [call.lineno for call in calls if _waits_without_a_bound(call, reads=path.name == "processes.py")]
    assert unbounded == [], f"{path.relative_to(TOP)}: give these lines a timeout"


def _waits_without_a_bound(call: ast.Call, *, reads: bool) -> bool:
    if not isinstance(call.func, ast.Attribute) or "timeout" in (given := {word.arg for word in call.keywords}):
        return False
    of_subprocess = isinstance(call.func.value, ast.Name) and call.func.value.id == "subprocess"
    match call.func.attr:
        case "communicate":
            return True
        case "wait":
            return not call.args
        case "Popen":
            pipes = [word.arg for word in call.keywords if ast.unparse(word.value) == "subprocess.PIPE"]
            return of_subprocess and "stdout" in pipes and not reads
        case attribute:
            return of_subprocess and attribute in RUNNERS and None not in given


def test_suites_hold_claims_only() -> None:
    """What observes and what judges is in the library, in the room of that name, where others find it."""
    beside = [
        f"{path.relative_to(TOP)}:{node.lineno} {node.name} is not a claim: move it to src/meshproof/{path.parent.name}"
        for path in sorted((TOP / "suites").rglob("test_*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not _is_claim(node)
    ]
    assert beside == []


def _is_claim(node: ast.FunctionDef | ast.ClassDef) -> bool:
    calls = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
    return any(isinstance(func, ast.Name) and func.id == "claim" for func in calls)


def test_the_library_never_imports_pytest() -> None:
    """It must work where pytest is not: `meshproof lab up` and every colleague's own script."""
    code = "import sys, meshproof.cli.main, meshproof.mesh.handles, meshproof.claims.claim, meshproof.pki.issue\n"
    code += "import meshproof.core.statistics\n"
    code += "print(*sorted({'pytest', '_pytest', 'scipy', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
