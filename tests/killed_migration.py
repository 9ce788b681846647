"""`python -m killed_migration NUMBER upgrade head`: migrations that die as by kill -9.

They do so before the statement with that number.
"""

import os
import runpy
import signal
import sys

from heliograph.store.migrations import statements

_split, _last = statements.split, int(sys.argv.pop(1))


def _dying(script, **options):
    for number, statement in enumerate(_split(script, **options)):
        if number == _last:
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement


statements.split = _dying
runpy.run_module("heliograph.store.migrations", run_name="__main__")
