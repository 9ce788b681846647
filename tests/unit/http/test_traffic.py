"""What counts as a failed request."""

from heliograph.http.paths import PREFIX
from heliograph.http.traffic import Traffic


def test_errors_of_the_server_are_counted_but_not_readiness():
    traffic = Traffic()
    assert traffic.failures() == (0, 0)
    traffic.requests = {
        (f"{PREFIX}/ingest", 2): 10,
        (f"{PREFIX}/ingest", 4): 5,
        (f"{PREFIX}/ingest", 5): 3,
        (f"{PREFIX}/readyz", 5): 100,
    }
    assert traffic.failures() == (18, 3)
