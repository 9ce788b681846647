"""On which engines a test runs."""

import pytest

# For routes and commands: what they ask of a database, the store's own tests ask of both engines.
SQLITE_FIRST = ("sqlite", pytest.param("postgresql", marks=pytest.mark.long))
