"""Ports of servers that have to know theirs before they start, or keep it over restarts.

Whatever can binds port 0 and tells its port. The others get one that is bound here meanwhile
and not listened on: the kernel hands it to nobody who asks for any port, and lets a server that
sets SO_REUSEADDR, as servers do, listen on it by its number.
"""

import collections
import socket

# More than one test needs; what is pushed out is given back.
_held: collections.deque[socket.socket] = collections.deque(maxlen=200)


def free_port() -> int:
    """Return a port that nobody else is given while this process runs."""
    holding = socket.socket()
    holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holding.bind(("127.0.0.1", 0))
    _held.append(holding)
    port: int = holding.getsockname()[1]
    return port
