"""Whoever types a command, as the audit log names him."""

import os
import pwd

from heliograph.model.audit import Actor, ActorKind


def command_line() -> Actor:
    """Return the user of the operating system that runs this command."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # In a container the number often has no name.
        name = str(os.getuid())
    return Actor(ActorKind.COMMAND_LINE, name)
