"""compose.yaml holds to the Compose specification, whose schema is Apache-2.0, as beside it."""

import copy
import json
import re
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from heliograph.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text("utf-8")
COMPOSE = yaml.safe_load(TEXT)
SCHEMA = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text("utf-8"))


def test_it_holds_to_the_specification():
    validator = jsonschema_rs.validator_for(SCHEMA)
    validator.validate(COMPOSE)
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["server"]["readonly"] = True
    with pytest.raises(jsonschema_rs.ValidationError, match="readonly"):
        validator.validate(wrong)


def test_the_image_says_where_the_authorities_are_that_it_trusts():
    # Else nothing is: /usr/lib/ssl/certs is a link of the package openssl, which is taken out.
    image = (ROOT / "Dockerfile").read_text("utf-8")
    removed = " ".join(re.findall(r"dpkg --remove((?:.*\\\n)+)", image))
    assert "openssl" in removed.split()
    assert "ca-certificates" not in removed.split()
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in image
    assert "SSL_CERT_DIR=/etc/ssl/certs" in image


def test_what_it_mounts_is_declared():
    mounted = {
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service["volumes"]
    }
    assert {name for name in mounted if not name.startswith("/")} == set(COMPOSE["volumes"])


def test_each_profile_that_it_documents_exists():
    profiles = {name for each in COMPOSE["services"].values() for name in each.get("profiles", ())}
    assert set(re.findall(r"--profile (\w+)", TEXT)) == profiles


def test_what_it_sets_are_settings():
    known = {name.upper() for name in Settings.model_fields}
    assert set(COMPOSE["services"]["server"]["environment"]) <= known
