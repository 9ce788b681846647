"""What a backup is said to hold, where measurements are rows and where they are packed."""

from heliograph.store.sqlite_backup import Contents


def test_packed_measurements_are_told_beside_rows():
    rows = {"sensor": 12, "measurement": 90_154, "log": 3}
    assert Contents("0031", rows).summary == "12 sensors, 90,154 measurements"
    packed = Contents("0031", rows | {"chunk": 1_200}).summary
    assert packed == "12 sensors, 90,154 measurements, 1,200 chunks of packed ones"
