"""scripts/test: what fails beside the others is tried once more, alone, and nothing else is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "test"
# Stands for Python: notes how it is called, leaves what pytest would, and ends as it is told.
PYTHON = """#!/bin/sh
[ "$1" = - ] && exit
echo "$@" >>calls
case "$*" in *--last-failed*) exit "$ALONE" ;; esac
for argument; do
    case $argument in
    cache_dir=*) folder=${argument#cache_dir=}/v/cache ;;
    esac
done
mkdir -p "$folder"
echo "$FAILED" >"$folder/lastfailed"
exit "$TOGETHER"
"""


# A real pytest, of which one test fails as long as it is beside others.
REAL = f"""#!/bin/sh
[ "$1" = - ] && exit
echo "$@" >>calls
exec {sys.executable} "$@"
"""
TESTS = """
import os

def test_passes(): ...

def test_passes_alone():
    assert "PYTEST_XDIST_WORKER" not in os.environ
"""


def run(
    folder: Path, *arguments: str, together: int, failed: int, alone: int = 0, python: str = PYTHON
) -> int:
    for name, text in (
        ("scripts/setup", "#!/bin/sh\n"),
        ("scripts/bounds", "#!/bin/sh\n"),
        (".venv/bin/coverage", '#!/bin/sh\necho coverage "$@" >>calls\n'),
        (".venv/bin/python", python),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    shutil.copy(SCRIPT, folder / "scripts" / "test")
    names = {f"tests/test_{number}.py::test_it": True for number in range(failed)}
    environment = {
        **{name: text for name, text in os.environ.items() if "XDIST" not in name},
        "TOGETHER": str(together),
        "ALONE": str(alone),
        "FAILED": json.dumps(names, indent=2),
    }
    command = [folder / "scripts" / "test", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def called(folder: Path, what: str) -> bool:
    return what in (folder / "calls").read_text()


@pytest.mark.parametrize(("failed", "alone", "status"), [(1, 0, 0), (3, 0, 0), (2, 1, 1)])
def test_a_few_that_fail_are_run_once_more_alone(tmp_path, failed, alone, status):
    assert run(tmp_path, together=1, failed=failed, alone=alone) == status
    assert called(tmp_path, "--last-failed")
    assert called(tmp_path, "coverage report") is (status == 0)


@pytest.mark.parametrize(("together", "failed"), [(1, 4), (1, 0), (2, 1), (3, 0)])
def test_many_and_what_is_no_failed_test_are_not_forgiven(tmp_path, together, failed):
    assert run(tmp_path, together=together, failed=failed) == together
    assert not called(tmp_path, "--last-failed")


def test_pytest_itself_knows_what_failed(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_toy.py").write_text(TESTS)
    shutil.copy(SCRIPT.parents[1] / "pyproject.toml", tmp_path)
    assert run(tmp_path, together=0, failed=0, python=REAL) == 0
    assert called(tmp_path, "--last-failed")


def test_by_night_nothing_is_forgiven(tmp_path):
    assert run(tmp_path, "--all", together=1, failed=1) == 1
    assert not called(tmp_path, "--last-failed")


def test_what_passes_is_run_once(tmp_path):
    assert run(tmp_path, together=0, failed=0) == 0
    assert not called(tmp_path, "--last-failed")
    assert called(tmp_path, "coverage report")
