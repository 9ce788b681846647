"""What counts as a failed request."""

from heliograph.http.paths import PREFIX
from heliograph.http.traffic import Traffic


def test_errors_of_the_server_are_counted_but_not_readiness():
    traffic = Traffic()
    assert traffic.failures() == (0, 0)
    for name, status, count in (
        *(("ingest", 2, 10), ("ingest", 4, 5)),
        *(("ingest", 5, 3), ("readyz", 5, 100)),
    ):
        traffic.requests[f"{PREFIX}/{name}", status].counts[0] = count
    assert traffic.failures() == (18, 3)
