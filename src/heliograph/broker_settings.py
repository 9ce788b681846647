"""The settings by which brokers that are not ours learn who may do what."""

from pathlib import Path

from pydantic import BaseModel, SecretStr

from heliograph.setting_types import Key, Networks, is_there


class BrokerSettings(BaseModel):
    """Mosquitto's files, and who may ask as a broker over HTTP."""

    mosquitto_password_path: Path | None = None
    mosquitto_acl_path: Path | None = None
    mosquitto_pid_path: Path | None = None
    dynamic_security_username: str = "admin"
    dynamic_security_password: SecretStr | None = None
    broker_auth_key: Key | None = None
    broker_auth_networks: Networks = ()

    def check_broker(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ValueError: one line says what.
        """
        if self.mosquitto_pid_path and not (
            self.mosquitto_password_path or self.mosquitto_acl_path
        ):
            raise ValueError("MOSQUITTO_PID_PATH: goes with MOSQUITTO_PASSWORD_PATH")
        for name in ("mosquitto_password_path", "mosquitto_acl_path"):
            path: Path | None = getattr(self, name)
            if path is not None and not is_there(path.parent, folder=True):
                raise ValueError(f"{name.upper()}: there is no folder {str(path.parent)!r}")
