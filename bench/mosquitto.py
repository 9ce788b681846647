"""A private Mosquitto, as `deploy/mosquitto` sets it up: nothing that was taken is dropped."""

import shutil
from pathlib import Path

from bench.processes import Measured, free_port
from bench.starting_line import LoadError

OPTIONS = """
allow_anonymous true
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
persistence true
autosave_interval 1800
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""


class Mosquitto:
    """A running broker with its state in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise LoadError("mosquitto is not installed: apt-get install mosquitto")
        self.port = free_port()
        # As root it goes on as a user of its own.
        folder.chmod(0o777)
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\npersistence_location {folder}/{OPTIONS}"
        )
        self.process = Measured([program, "-c", str(configuration)], folder / "log")
        self.process.wait_for_port(self.port)

    @property
    def url(self) -> str:
        """What MQTT_URL is set to."""
        return f"mqtt://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.process.stop()
