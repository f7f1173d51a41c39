"""Commands of other tools as records: what a person can paste, what is told, and what a rehearsal does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from meshproof.core.errors import BadInput, Broken, NotReady
from meshproof.core.progress import LineNarrator, Silent
from meshproof.providers.cli_tools.commands import Command, DryRunner, Shell, Tool, require_tools, try_all

ASK = Command(argv=("echo", "a b", "$HOME"), why="what echo says", example="x")
READ = Command(argv=("cat",), why="cat reads", stdin="one: $HOME\ntwo\n")


def test_what_is_shown_can_be_pasted_into_a_shell() -> None:
    assert ASK.text == "echo 'a b' '$HOME'"
    assert READ.text == "cat <<'END'\none: $HOME\ntwo\nEND"
    for command in (ASK, READ):
        pasted = subprocess.run(["sh", "-c", command.text], capture_output=True, text=True, check=True, timeout=30)
        assert pasted.stdout.strip() == Shell(Silent()).run(command)


def test_only_what_changes_something_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    shell = Shell(LineNarrator(told.append))
    with caplog.at_level("INFO"):
        assert shell.at_once([ASK, READ]) == ["a b $HOME", "one: $HOME\ntwo"]
    assert [line.split("s  ")[-1] for line in told] == ["cat reads"]
    assert sorted(caplog.messages) == [f"cat reads: {READ.text}", f"what echo says: {ASK.text}"]


def test_a_failure_has_the_command_and_its_last_words() -> None:
    command = Command(argv=("sh", "-c", "echo why >&2; exit 3"), why="it fails")
    with pytest.raises(Broken) as caught:
        Shell(Silent()).run(command)
    assert str(caught.value) == (
        "sh -c 'echo why >&2; exit 3': exit code 3; last output: why\n  repair: run it by hand for the complete output"
    )


def test_only_words_that_pass_are_waited_for(tmp_path: Path) -> None:
    script = f"echo >> {tmp_path}/tries; echo busy >&2; exit 1"
    other = Command(argv=("sh", "-c", script), why="it fails", again_if="webhook", patience_s=30)
    with pytest.raises(Broken, match="exit code 1; last output: busy"):
        Shell(Silent()).run(other)
    assert (tmp_path / "tries").read_text() == "\n"
    busy = Command(argv=("sh", "-c", script), why="it fails", again_if="busy", patience_s=0.3)
    with pytest.raises(NotReady, match=r"not within 0.3 s .*\n  last seen   exit code 1; last output: busy"):
        Shell(Silent()).run(busy)
    assert len((tmp_path / "tries").read_text()) > 2


def test_a_rehearsal_runs_nothing_and_answers_with_examples(tmp_path: Path) -> None:
    rehearsal = DryRunner()
    touch = Command(argv=("touch", str(tmp_path / "file")), why="a file")
    assert rehearsal.at_once([ASK, touch]) == ["x", ""]
    assert rehearsal.commands == [ASK, touch]
    assert not (tmp_path / "file").exists()


def test_all_steps_are_tried() -> None:
    done: list[str] = []

    def fail(name: str) -> None:
        done.append(name)
        raise Broken(name, "no")

    with pytest.raises(Broken, match="a: no") as caught:
        try_all((lambda: fail("a"), lambda: done.append("b"), lambda: fail("c")))
    assert (done, caught.value.__notes__) == (["a", "b", "c"], ["and: c: no"])


def test_all_programs_that_are_missing_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kubectl").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = [Tool(name=name, repair=f"install {name}") for name in ("kind", "kubectl", "docker")]
    with pytest.raises(BadInput) as caught:
        require_tools("kind", wanted)
    assert str(caught.value) == ("--provider=kind: not in PATH: kind, docker\n  repair: install kind; install docker")
