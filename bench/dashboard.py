"""Pages of the dashboard in a headless Chromium: many sensors that send, and a sensor's year."""

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Workbench

# The browser is driven as tests drive it.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import CHROMIUM, Page, browser, until

FRAMES = Goal(30, "figure", "at least")
MEMORY = Goal(300, "figure", "at most")
DRAWN = Goal(300, "figure", "at most")
SENSORS = 2_000
AT_ONCE = 100
MILLISECONDS = 10_000
SIGN_UP = """fetch("/api/v1/users", {method: "POST", headers: {"content-type": "application/json"},
  body: JSON.stringify({username: "bench", password: "Nine-lanterns-at-dawn", cookie: true})})
  .then(() => fetch("/api/v1/networks", {method: "POST",
    headers: {"content-type": "application/json"}, body: '{"network_name": "many"}'}))
  .then((answer) => answer.json()).then((network) => network.network_identifier)"""
HOUR, DAY = 3_600, 86_400
YEAR = 365 * DAY
ROWS_AT_ONCE = 1_000
# When a line of a chart was drawn: uPlot strokes it as a path of its own, and axes without one.
WATCH = """(() => {
  const { stroke } = CanvasRenderingContext2D.prototype;
  globalThis.drawn = [];
  CanvasRenderingContext2D.prototype.stroke = function (...path) {
    stroke.apply(this, path);
    const note = () => setTimeout(() => drawn.push(performance.now()));
    if (path.length > 0) requestAnimationFrame(note);
  };
})()"""
# Milliseconds from the first byte of the newest answer of this kind to the next frame with the line
# drawn of it; null: not yet. So many answers have to have come.
LASTED = """((part, count) => {
  const found = performance.getEntriesByType("resource").filter(({ name }) => name.includes(part));
  if (found.length < count) return null;
  const { responseStart, responseEnd } = found.at(-1);
  const after = drawn.find((time) => time > responseEnd);
  return after === undefined ? null : after - responseStart;
})"""
ANSWERS = """((part) => performance.getEntriesByType("resource")
  .filter(({ name }) => name.includes(part)).length)"""
ROWS = "document.querySelector('[role=table]')?.ariaRowCount"
COURSES = "document.querySelectorAll('.sparkline path').length"
# Scrolls up and down through all rows; the answer is in frames a second.
SCROLL = """new Promise((done) => {
  const start = performance.now();
  let frames = 0, top = 0, step = 40;
  requestAnimationFrame(function frame(time) {
    frames++;
    top += step;
    if (top < 0 || top > document.body.scrollHeight) step = -step;
    scrollTo(0, top);
    if (time - start > %d) done(frames / (time - start) * 1000);
    else requestAnimationFrame(frame);
  });
})"""


def kinds() -> dict[str, Callable[[Workbench], Result]]:
    """Return the benchmarks by name."""
    names = {of: f"dashboard-network-{of}" for of in ("frames", "memory")}
    found = {name: network(name, of) for of, name in names.items()}
    return {**found, "dashboard-year-open": year_open, "dashboard-year-zoom": year_zoom}


def missing() -> dict[str, str]:
    """Return by name what this machine lacks for a benchmark."""
    return {} if CHROMIUM else dict.fromkeys(kinds(), "needs Chromium")


def network(name: str, of: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of the page of 2,000 sensors at 1 Hz: its `frames` or its `memory`.

    Frames are counted while the page scrolls; memory is that of the process that shows the page.
    """

    def run(bench: Workbench) -> Result:
        figures = [_sample(bench, of) for _ in range(bench.scale.rounds)]
        if of == "frames":
            return Result(name, "frames/s", FRAMES, figures)
        return Result(name, "MiB", MEMORY, figures)

    return run


def year_open(bench: Workbench) -> Result:
    """Return how long after its answer's first byte the chart of a year is drawn."""
    return Result("dashboard-year-open", "ms", DRAWN, [year[0] for year in _years(bench)])


def year_zoom(bench: Workbench) -> Result:
    """Return that of each zoom from the year to raw values: of the slowest one."""
    return Result("dashboard-year-zoom", "ms", DRAWN, [year[1] for year in _years(bench)])


def _years(bench: Workbench) -> list[tuple[Sample, Sample]]:
    """Return of each round what it took to open the page, and to zoom."""
    if "year" not in bench.kept:
        with bench.server("sqlite", bench.scale.hundred, RATE_LIMIT_READ="0") as side:
            url = f"http://127.0.0.1:{side.http_port}"
            with browser() as opened, opened(f"{url}/dashboard/") as page:
                network = page(SIGN_UP)
                end = _fill(url, network)
                page.command("Page.enable")
                page.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
                page.show(1440, "light")
                sensor = f"{url}/dashboard/networks/{network}/sensors/year"
                bench.kept["year"] = [_year(page, sensor, end) for _ in range(bench.scale.rounds)]
    kept: list[tuple[Sample, Sample]] = bench.kept["year"]
    return kept


def _year(page: Page, sensor: str, end: float) -> tuple[Sample, Sample]:
    """Open a sensor's page on a year, and zoom to a month, a day, five hours and half an hour."""
    page.command("Page.navigate", url=f"{sensor}?{_window(end, YEAR)}")
    until(lambda: page("globalThis.drawn?.length > 0"))
    first = _lasted(page, "/aggregates", 1)
    zooms = {}
    for name, length in (("month", 30 * DAY), ("day", DAY), ("hours", 5 * HOUR), ("raw", 1_800)):
        # What is longer than six hours comes as buckets.
        part = "/aggregates" if length > 5 * HOUR else "points="
        count = page(f"{ANSWERS}({json.dumps(part)})") + 1
        target = json.dumps(f"{sensor}?{_window(end, length)}")
        page(f"drawn.length = 0, history.pushState(null, '', {target})")
        zooms[name] = _lasted(page, part, count)
    return Sample(first), Sample(max(zooms.values()), extra=zooms)


def _lasted(page: Page, part: str, count: int) -> float:
    asked = f"{LASTED}({json.dumps(part)}, {count})"
    until(lambda: page(asked) is not None)
    return float(page(asked))


def _window(end: float, length: float) -> str:
    """Return the query that shows what was measured so many seconds before a time."""
    times = (datetime.fromtimestamp(at, UTC) for at in (end - length, end))
    start, stop = (at.isoformat(timespec="milliseconds").replace("+00:00", "Z") for at in times)
    return f"from={start}&to={stop}&attribute=temperature"


def _fill(url: str, network_identifier: str) -> float:
    """Store a year of a sensor's values, and return when it ends.

    Each ten minutes one, and of the last day one each second. A year at 1 Hz would be drawn of as
    many buckets and points: what it takes longer is over before the answer's first byte.
    """
    end = time.time() // 60 * 60
    times = [end - YEAR + at for at in range(0, YEAR - DAY, 600)]
    times += [end - DAY + at for at in range(DAY)]
    with httpx.Client(base_url=url, headers={"X-API-Key": ADMIN_KEY}, timeout=60) as http:
        device = {"device_id": "year", "network_identifier": network_identifier}
        http.post("/devices", json=device).raise_for_status()
        for start in range(0, len(times), ROWS_AT_ONCE):
            readings = [
                {"device_id": "year", "timestamp": at, "temperature": 20 + at % 997 / 100}
                for at in times[start : start + ROWS_AT_ONCE]
            ]
            http.post("/ingest/batch", json=readings).raise_for_status()
    return end


def _sample(bench: Workbench, of: str) -> Sample:
    with bench.server("sqlite", bench.scale.hundred, RATE_LIMIT_READ="0") as side:
        url = f"http://127.0.0.1:{side.http_port}"
        with browser() as opened, opened(f"{url}/dashboard/") as page:
            identifier = page(SIGN_UP)
            ended = threading.Event()
            sender = threading.Thread(target=_send, args=(url, identifier, ended))
            sender.start()
            try:
                page.show(1440, "light")
                page.command("Page.navigate", url=f"{url}/dashboard/networks/{identifier}")
                until(lambda: page(f"{ROWS} === '{SENSORS + 1}' && {COURSES} > 5"))
                return Sample(_figure(page, of))
            finally:
                ended.set()
                sender.join()


def _figure(page: Page, of: str) -> float:
    frames = page(SCROLL % MILLISECONDS)
    if of == "frames":
        return float(frames)
    return max(map(_share, _renderers()))


def _renderers() -> Iterator[Path]:
    """Yield the folders in /proc of the browser's processes that show pages: it is our child."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in (folder / "cmdline").read_bytes() and _is_ours(folder):
                yield folder


def _is_ours(folder: Path) -> bool:
    number = int(folder.name)
    while number > 1:
        # Behind the name, which may hold anything: state and parent.
        stat = Path(f"/proc/{number}/stat").read_text()
        number = int(stat.rpartition(")")[2].split()[1])
        if number == os.getpid():
            return True
    return False


def _share(folder: Path) -> float:
    """Return the memory of a process in MiB; of what it shares with others only its share."""
    found = re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _send(url: str, network_identifier: str, ended: threading.Event) -> None:
    """Register the sensors and send a reading of each a second."""
    names = [f"many-{number:04}" for number in range(SENSORS)]
    headers = {"X-API-Key": ADMIN_KEY}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        for start in range(0, SENSORS, AT_ONCE):
            devices = [
                {"device_id": name, "network_identifier": network_identifier}
                for name in names[start : start + AT_ONCE]
            ]
            http.post("/devices/batch", json=devices).raise_for_status()
        begun, sent = time.monotonic(), 0
        while not ended.is_set():
            first = sent % SENSORS
            readings = [
                {
                    "device_id": name,
                    "temperature": 20 + sent % 97 / 10,
                    "humidity": 50,
                }
                for name in names[first : first + AT_ONCE]
            ]
            http.post("/ingest/batch", json=readings).raise_for_status()
            sent += AT_ONCE
            ended.wait(max(0, begun + sent / SENSORS - time.monotonic()))
