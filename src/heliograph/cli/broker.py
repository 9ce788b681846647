"""`heliograph broker`: tells brokers that are not ours who may do what."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import typer

from heliograph.broker_url import parse_broker_url
from heliograph.brokers.dynamic_security import (
    ControlError,
    ControlTopic,
    RulesOf,
    plan,
    plugin_file,
)
from heliograph.brokers.mosquitto import (
    FilesError,
    MosquittoFiles,
    MosquittoPaths,
    read_text,
    replace_text,
)
from heliograph.brokers.rules import AccessRules, ServerAccount, rules_for, server_account
from heliograph.cli.database import with_store
from heliograph.cli.device_file import read_keys
from heliograph.cli.output import echo
from heliograph.errors import StartError, StoreUnavailableError
from heliograph.model.counting import counted
from heliograph.model.credentials import hash_key
from heliograph.settings import Settings, load_settings
from heliograph.store import Store
from heliograph.store.brokers import DeviceAccess
from heliograph.tls import link_tls

WATCH_SECONDS = 1.0
# How many of those who need a new key are named.
SHOWN = 20

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def mosquitto(
    *,
    password_file: Path | None = typer.Option(
        None, help="Mosquitto's password_file. Default: MOSQUITTO_PASSWORD_PATH."
    ),
    acl_file: Path | None = typer.Option(
        None, help="Mosquitto's acl_file. Default: MOSQUITTO_ACL_PATH."
    ),
    pid_file: Path | None = typer.Option(
        None, help="Mosquitto's pid_file, to have it read them. Default: MOSQUITTO_PID_PATH."
    ),
    no_reload: bool = typer.Option(False, "--no-reload", help="Write only; signal nobody."),
    watch: bool = typer.Option(False, "--watch", help="Go on with every change, until Ctrl-C."),
) -> None:
    """Write Mosquitto's files: the devices' UUIDs and keys, and the topics of each.

    They are written if they differ, whole, and Mosquitto then reads them again (SIGHUP). In the
    password file lines of names that are no UUIDs stay; in the ACL file all outside of the marks.
    """
    settings = load_settings()
    if no_reload and pid_file is not None:
        raise typer.BadParameter("goes against --no-reload", param_hint="--pid-file")
    paths = MosquittoPaths(
        password_file or settings.mosquitto_password_path,
        acl_file or settings.mosquitto_acl_path,
        None if no_reload else pid_file or settings.mosquitto_pid_path,
    )
    if paths.passwords is None and paths.acl is None:
        raise StartError("which file? give --password-file, --acl-file, or both")
    if paths.pid is None and not no_reload:
        raise StartError("give --pid-file, so that Mosquitto reads what is written; or --no-reload")
    account, rules = server_account(settings), rules_for(settings, "%u")

    async def work(store: Store) -> None:
        files = MosquittoFiles(store.broker_access, paths, rules, account)
        await (_follow(store, files) if watch else _update(files))

    try:
        with_store(work, settings)
    except KeyboardInterrupt:
        if not watch:
            raise


@app.command("dynamic-security")
def dynamic_security(
    *,
    keys: Path | None = typer.Option(
        None, help="Keys as heliograph device import gives them out (CSV): for new clients."
    ),
    write: Path | None = typer.Option(
        None, help="Write the plugin's own file instead, for a broker that is not running."
    ),
) -> None:
    """Bring Mosquitto's dynamic-security plugin up to date over its control topic.

    At the broker of MQTT_URL, as DYNAMIC_SECURITY_USERNAME. The plugin takes keys, no hashes:
    clients are made, and get a new password, where --keys has the key. What is out of date and
    has no key there is disabled. --write needs no keys.
    """
    settings = load_settings()
    account = server_account(settings)
    given = read_keys(keys) if keys is not None else {}

    async def work(store: Store) -> list[DeviceAccess]:
        return [device async for device in store.broker_access.devices()]

    devices = with_store(work, settings)

    def rules_of(name: str) -> AccessRules:
        return rules_for(settings, name)

    if write is not None:
        done, unknown = _write_plugin_file(write, devices, rules_of, account)
    else:
        fresh = {
            device.identifier: key
            for device in devices
            if (key := given.get(device.identifier)) and hash_key(key) == device.key_hash
        }
        done, unknown = _synchronize(settings, devices, fresh, rules_of, account)
    echo(done)
    _name_unknown(unknown)


def _synchronize(
    settings: Settings,
    devices: list[DeviceAccess],
    keys: dict[str, str],
    rules_of: RulesOf,
    account: ServerAccount,
) -> tuple[str, Sequence[str]]:
    if settings.mqtt_url is None or settings.dynamic_security_password is None:
        raise StartError("MQTT_URL and DYNAMIC_SECURITY_PASSWORD: both are needed for this")
    broker = parse_broker_url(settings.mqtt_url)
    tls = link_tls(settings) if broker.tls else None
    password = settings.dynamic_security_password.get_secret_value()
    try:
        with ControlTopic(broker, settings.dynamic_security_username, password, tls) as control:
            planned = plan(devices, control.state(), keys, rules_of, account)
            control.call(planned.commands)
    except ControlError as error:
        raise StartError(str(error)) from None
    return (
        f"{counted(len(devices), 'device')}, {counted(len(planned.commands), 'change')}",
        planned.unknown,
    )


def _write_plugin_file(
    path: Path, devices: list[DeviceAccess], rules_of: RulesOf, account: ServerAccount
) -> tuple[str, Sequence[str]]:
    try:
        text = read_text(path)
        existing = json.loads(text) if text else {}
        if not isinstance(existing, dict):
            raise StartError(f"{path} is not the plugin's file")
        document, unknown = plugin_file(existing, devices, rules_of, account)
        changed = replace_text(path, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise StartError(f"can't write {path}: {error.strerror}") from None
    except ValueError:
        raise StartError(f"{path} is not JSON") from None
    count = sum(device.is_active for device in devices) - len(unknown)
    return f"{counted(count, 'device')}, {'written' if changed else 'as it was'}", unknown


async def _follow(store: Store, files: MosquittoFiles) -> None:
    """Bring the files up to date with every change, for ever."""
    written, reported = None, ""
    while True:
        try:
            # Read before the devices are: what changes meanwhile is written the next time.
            change = await store.sensors.newest_change()
            if change != written:
                await _update(files)
                written, reported = change, ""
        except (StartError, StoreUnavailableError) as error:
            if str(error) != reported:
                echo(f"heliograph: {error}", err=True)
            reported = str(error)
        await asyncio.sleep(WATCH_SECONDS)


async def _update(files: MosquittoFiles) -> None:
    try:
        written = await files.update()
    except FilesError as error:
        raise StartError(str(error)) from None
    echo(f"{counted(written.devices, 'device')}, {'written' if written.changed else 'as it was'}")
    _name_unknown(written.unknown)


def _name_unknown(unknown: Sequence[str]) -> None:
    if count := len(unknown):
        names = ", ".join(unknown[:SHOWN]) + (", …" if count > SHOWN else "")
        echo(
            f"nobody here knows the key of {counted(count, 'device')} in the form that this takes:"
            f" no log-in there without a new one (heliograph device rotate): {names}",
            err=True,
        )
