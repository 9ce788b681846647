"""Decoding of what devices send, as pure functions: bytes in, rows and faults out.

All of it is here by name; each kind of message has its own module.
"""

from heliograph.ingest.attributes import attribute_names
from heliograph.ingest.heartbeats import decode_heartbeats, decode_status
from heliograph.ingest.json_checks import Rejected
from heliograph.ingest.log_messages import decode_logs
from heliograph.ingest.measurements import decode_measurements
from heliograph.ingest.readings import Reading, decode_reading, decode_readings, measurement_row

__all__ = [
    "Reading",
    "Rejected",
    "attribute_names",
    "decode_heartbeats",
    "decode_logs",
    "decode_measurements",
    "decode_reading",
    "decode_readings",
    "decode_status",
    "measurement_row",
]
