"""The operating system's limits that a benchmark needs raised."""

import resource


def raise_open_files(wanted: int) -> None:
    """Let this process and those it starts open so many files.

    Raises:
        OSError: the hard limit is lower, and may not be raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except ValueError as error:
        raise OSError(f"{wanted} open files are needed, ulimit -Hn says {hard}") from error
