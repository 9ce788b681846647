"""`heliograph settings`."""

import io
import json
from pathlib import Path

import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner

from bare_environment import NAMES, work_in
from heliograph.cli.main import app
from heliograph.masking import MASK


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)


def output(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(app, ["settings", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_prints_what_a_env_file_could_hold():
    values = dotenv_values(stream=io.StringIO(output(DEBUG="true", MQTT_LISTEN="[::]:1,[::]:2")))
    assert sorted(values) == sorted(NAMES)
    assert values["DEBUG"] == "true"
    assert values["MQTT_LISTEN"] == "[::]:1,[::]:2"
    assert values["API_SECRET_KEY"] == ""


def test_masks_secrets():
    secrets = {
        "API_SECRET_KEY": "hidden-1",
        "DEVICE_API_KEYS": "hidden-2,hidden-3",
        "DATABASE_URL": "postgresql://u:hidden-4@h/d",
    }
    for text in (output(**secrets), output("--json", **secrets)):
        assert "hidden" not in text
        assert f"postgresql://u:{MASK}@h/d" in text


def test_json_is_one_object_of_all():
    assert list(json.loads(output("--json"))) == NAMES


def test_tells_where_the_made_up_key_is(tmp_path):
    assert "API_SECRET_KEY is" not in output()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api_secret_key").write_text("hidden")
    assert output().endswith("# API_SECRET_KEY is the one in data/api_secret_key\n")
    assert "hidden" not in output()


def test_tells_what_can_change_while_the_server_runs():
    for environment, are_topics in (({}, True), ({"MQTT_URL": "mqtt://broker.example.org"}, False)):
        _, changeable, others = output(**environment).split("# ")
        assert "\nPROCESSING_INTERVAL=" in changeable
        assert "\nPORT=" in others
        assert ("\nMQTT_PUBLISH_TOPIC=" in changeable) is are_topics
        assert ("\nMQTT_PUBLISH_TOPIC=" in others) is not are_topics
