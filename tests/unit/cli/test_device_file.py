"""Files of devices: what a line gives a device, and how a bad one is named."""

from pathlib import Path

import pytest

from heliograph.cli.device_file import COLUMNS, read_devices
from heliograph.errors import StartError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "devices.csv"


def refusal(file: Path) -> str:
    with pytest.raises(StartError) as raised:
        read_devices(file)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_empty_cells_and_lines_are_left_out(file: Path) -> None:
    file.write_text(",".join(COLUMNS) + "\nd-1, Pump ,n,s,1,A,B,C,0.5\n\n ,\nd-2" + "," * 8 + "\n")
    assert read_devices(file) == [
        (
            2,
            {
                "device_id": "d-1",
                "name": "Pump",
                "network_identifier": "n",
                "sensor_name": "s",
                "serial_number": "1",
                "manufacturer": "A",
                "model": "B",
                "modality": "C",
                "expected_interval": 500_000,
            },
        ),
        (5, {"device_id": "d-2"}),
    ]


def test_a_device_has_tags_and_a_place(file: Path) -> None:
    file.write_text("device_id,tags,latitude,longitude,place\nd-1,roof; dry ;,-46.5,7,Bern\n")
    ((_, members),) = read_devices(file)
    place = {"latitude": -46.5, "longitude": 7.0, "place": "Bern"}
    assert members == {"device_id": "d-1", "tags": ("roof", "dry"), **place}


def test_no_devices_are_no_error(file: Path) -> None:
    file.write_text("device_id\n")
    assert read_devices(file) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no column is called device_id"),
        ("name\nx\n", "line 1: no column is called device_id"),
        ("device_id,colour\nd-9,red\n", "line 1: no column 'colour'"),
        ("device_id,name,name\nd-9,a,b\n", "line 1: no column 'name'"),
        ("device_id\nd-9\na b\n", "line 3: device_id has to be"),
        ("device_id\nd-9\nkey-1\n", "line 3: device_id has to be"),
        ("device_id,name\nd-9,x\n,y\n", "line 3: device_id has to be"),
        ("device_id\nd-9\n8d4ed9a0-5e8b-4a8f-9a3b-0b7a4a6f1c11\n", "line 3: device_id has to be"),
        ("device_id\nd-9\nd-8\nd-9\n", "line 4: device_id 'd-9' is on line 2 too"),
        ('device_id,name\nd-9,"a\nb"\nd-9,\n', "line 4: device_id 'd-9' is on line 2 too"),
        ("device_id\nd-9,too many\n", "line 2: more cells"),
        ("device_id,name\nd-9,\0\n", "line 2: name has a NUL"),
        ("device_id,name\nd-9," + "x" * 256 + "\n", "line 2: name has a NUL or over 255"),
        ("device_id,expected_interval\nd-9,soon\n", "line 2: expected_interval"),
        ("device_id,expected_interval\nd-9,nan\n", "line 2: expected_interval"),
        ("device_id,expected_interval\nd-9,0\n", "line 2: expected_interval"),
        ("device_id,tags\nd-9," + "x" * 65 + "\n", "line 2: tags have 1 to 64 characters"),
        ("device_id,tags\nd-9," + ";".join(map(str, range(33))) + "\n", "line 2: tags are more"),
        ("device_id,latitude\nd-9,90.5\n", "line 2: latitude has to be -90 to 90 degrees"),
        ("device_id,longitude\nd-9,east\n", "line 2: longitude has to be -180 to 180"),
        ('device_id\nd-9\n"d-8\n', "line 3: unexpected end of data"),
    ],
)
def test_a_bad_line_is_named(file: Path, text: str, expected: str) -> None:
    file.write_text(text)
    assert refusal(file).startswith(expected)


def test_what_cannot_be_read_is_told_in_one_line(file: Path) -> None:
    assert refusal(file) == f"can't read {file}: No such file or directory"
    file.write_bytes("device_id\nd-1\nü\n".encode("latin-1"))
    assert refusal(file) == "line 3: not UTF-8"
