"""The server, which tells other servers nothing: what telling them costs is measured against it."""

import sys

from heliograph import server
from heliograph.cli.main import run

if __name__ == "__main__":
    # As where there is no other server.
    setattr(server, "_elsewhere", lambda *_: None)  # noqa: B010 - a function is not assigned to otherwise
    sys.argv[1:1] = ["serve"]
    run()
