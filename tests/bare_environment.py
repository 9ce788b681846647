"""A place without settings, and what the settings say to wrong ones."""

import os
from pathlib import Path

import pytest

from heliograph.errors import StartError
from heliograph.settings import Settings, load_settings

NAMES = [name.upper() for name in Settings.model_fields]


def without_variables() -> dict[str, str]:
    """Return the environment without any of our variables, for a process of its own."""
    ours = {*NAMES, *(f"{name}_FILE" for name in NAMES)}
    return {name: value for name, value in os.environ.items() if name not in ours}


def work_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder, without any of our variables."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.chdir(folder)


def refusal(**overrides: object) -> str:
    """Return the line by which the settings are refused."""
    with pytest.raises(StartError) as caught:
        load_settings(**overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line
