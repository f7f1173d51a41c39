"""`./in-venv` with stand-ins for the programs it calls: what it says, and that it redoes what was interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
TOOLS = ("cat", "cksum", "flock", "grep", "id", "mkdir", "mktemp", "rm", "sh", "tail", "true", "touch")

# A python3 that answers what in-venv asks of one, and notes each call. The environment it makes has a copy of it.
PYTHON = """\
#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
    *version_info*) [ -z "${OLD:-}" ] ;;
    -V) echo "Python ${OLD:-3.11.9}" ;;
    *ensurepip*) [ -z "${NO_VENV:-}" ] ;;
    "-m venv"*) for last; do :; done; rm -rf "$last"; mkdir -p "$last/bin"; cat "$0" >"$last/bin/python"
        chmod +x "$last/bin/python" ;;
    "-m pip install"*--require-hashes*) [ -z "${PIP_SAYS:-}" ] || { echo "$PIP_SAYS"; exit 1; } ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project folder with in-venv in it and a PATH of its own."""

    folder: Path
    bin: Path

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "in-venv", *argv],
            env={"PATH": str(self.bin), "CALLS": str(self.calls), "TMPDIR": str(self.bin), **(env or {})},
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    def installs(self) -> int:
        text = self.calls.read_text() if self.calls.exists() else ""
        return text.count("--require-hashes")

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "a project"
    own = tmp_path / "bin"
    folder.mkdir()
    own.mkdir()
    for name in ("in-venv", "requirements.lock", "pyproject.toml"):
        shutil.copy(TOP / name, folder / name)
    for name in (*TOOLS, "chmod"):
        real = shutil.which(name)
        assert real, name
        (own / name).symlink_to(real)
    made = Project(folder=folder, bin=own)
    made.program("python3", PYTHON)
    return made


def test_it_is_executable_and_plain_sh() -> None:
    assert os.access(TOP / "in-venv", os.X_OK)
    subprocess.run(["sh", "-n", TOP / "in-venv"], check=True, timeout=10)


def test_without_a_command_it_says_how_to_use_it(project: Project) -> None:
    done = project.run()
    assert (done.returncode, done.stderr) == (2, "usage: ./in-venv COMMAND [ARGUMENT…]\n")


def test_the_first_run_says_one_line_and_the_second_none(project: Project) -> None:
    first = project.run("true")
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr == "in-venv: creating .venv from requirements.lock with Python 3.11.9; takes a minute\n"
    second = project.run("true")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert project.installs() == 1


def test_the_command_gets_its_arguments_and_its_exit_code_comes_back(project: Project) -> None:
    done = project.run("sh", "-c", 'echo "$1|$2|$VIRTUAL_ENV"; exit 7', "x", "a b", "*")
    assert done.stdout == f"a b|*|{project.folder}/.venv\n"
    assert done.returncode == 7


def test_the_environment_comes_first_in_the_path(project: Project) -> None:
    project.run("true")
    assert project.run("sh", "-c", "command -v python").stdout == f"{project.folder}/.venv/bin/python\n"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_file_refreshes_the_environment(project: Project, name: str) -> None:
    project.run("true")
    with (project.folder / name).open("a") as file:
        file.write("# changed\n")
    done = project.run("true")
    assert done.stderr == "in-venv: refreshing .venv (requirements.lock or pyproject.toml changed)\n"
    assert project.installs() == 2


def test_a_moved_project_refreshes_its_environment(project: Project, tmp_path: Path) -> None:
    """The scripts in it name the old place."""
    project.run("true")
    moved = Project(folder=tmp_path / "moved", bin=project.bin)
    project.folder.rename(moved.folder)
    assert moved.run("true").returncode == 0
    assert moved.installs() == 2


def test_a_failed_set_up_is_begun_afresh(project: Project) -> None:
    failed = project.run("true", env={"PIP_SAYS": "disk full"})
    assert failed.returncode == 1
    assert "disk full" in failed.stderr
    assert f"setting up {project.folder}/.venv failed" in failed.stderr
    again = project.run("true")
    assert again.stderr.startswith("in-venv: creating .venv")
    assert again.returncode == 0
    assert project.installs() == 2


def test_a_set_up_that_was_killed_is_begun_afresh(project: Project) -> None:
    project.run("true")
    (project.folder / ".venv/stamp").unlink()
    (project.folder / ".venv/incomplete").touch()
    assert project.run("true").stderr.startswith("in-venv: creating .venv")


def test_two_at_once_set_up_once(project: Project) -> None:
    env = {"PATH": str(project.bin), "CALLS": str(project.calls), "TMPDIR": str(project.bin)}
    both = [subprocess.Popen([project.folder / "in-venv", "true"], env=env) for _ in range(2)]
    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert project.installs() == 1


def test_the_lock_is_not_held_while_the_command_runs(project: Project) -> None:
    """Else a long run would keep every other one from setting up."""
    done = project.run("flock", "--nonblock", str(project.folder / "requirements.lock"), "true")
    assert done.returncode == 0


def test_an_old_python_is_named_with_a_repair(project: Project) -> None:
    done = project.run("true", env={"OLD": "3.10.12"})
    assert done.returncode == 1
    assert done.stderr == (
        "in-venv: meshproof needs Python 3.11 or newer; found Python 3.10.12\n"
        "  repair: install a newer one (on Ubuntu 22.04: apt-get install python3.11 python3.11-venv), "
        "or name one: PYTHON=/path/to/python3.11\n"
    )


def test_a_newer_python_beside_an_old_one_is_found(project: Project) -> None:
    project.program("python3.12", PYTHON.replace("OLD", "NEITHER").replace("3.11.9", "3.12.1"))
    done = project.run("true", env={"OLD": "3.10.12"})
    assert done.returncode == 0
    assert "with Python 3.12.1" in done.stderr


def test_a_python_that_is_named_and_missing_is_an_error(project: Project) -> None:
    done = project.run("true", env={"PYTHON": "/nowhere/python3"})
    assert done.returncode == 1
    assert "found no /nowhere/python3" in done.stderr


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="Debian's way of splitting Python")
def test_who_is_not_root_is_told_what_to_install(project: Project) -> None:
    (project.bin / "id").unlink()
    project.program("id", "#!/bin/sh\necho 1000\n")
    project.program("apt-get", "#!/bin/sh\nexit 99\n")
    done = project.run("true", env={"NO_VENV": "1"})
    assert done.returncode == 1
    assert done.stderr == (
        "in-venv: this machine lacks python3-venv\n"
        "  repair: sudo apt-get update && sudo apt-get install -y python3-venv\n"
    )


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="Debian's way of splitting Python")
def test_root_gets_the_venv_module_installed_and_is_told(project: Project) -> None:
    (project.bin / "id").unlink()
    project.program("id", "#!/bin/sh\necho 0\n")
    project.program("apt-get", f'#!/bin/sh\necho "apt-get $*" >>"$CALLS"\ntouch "{project.bin}/has-venv"\n')
    project.program("python3", PYTHON.replace('[ -z "${NO_VENV:-}" ]', f'[ -e "{project.bin}/has-venv" ]'))
    done = project.run("true")
    assert done.returncode == 0
    assert done.stderr.startswith("in-venv: installing python3-venv with apt-get\nin-venv: creating .venv")
    assert "apt-get install -y --no-install-recommends python3-venv\n" in project.calls.read_text()


def test_without_an_index_it_says_how_to_name_one(project: Project) -> None:
    done = project.run("true", env={"PIP_SAYS": "ERROR: No matching distribution found for rich==15.0.0"})
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ERROR: No matching distribution found for rich==15.0.0\n"
        "in-venv: pip cannot get the packages\n"
        "  repair: check the network and pip's index (pip config list); "
        "PIP_INDEX_URL or PIP_FIND_LINKS name another\n"
    )
