"""Pictures of all pages of the dashboard, from a running server: what ./scripts/screenshots runs.

With page names as arguments only those pages. They are kept in docs/guide/dashboard/, which the
guide shows, and which tests/acceptance/test_screenshots.py holds new ones against.
"""

import base64
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import shared
from browser import SHIFTED, Page, browser, until
from server import ServerProcess
from showcase import PASSWORD, USER, showcase

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/guide/dashboard"
SIZES = {1440: 900, 360: 780}
THEMES = ("light", "dark")
# What browsers call good is below a tenth.
MOST_SHIFTED = 0.1
# The zone of all pictures, whatever that of the machine.
ZONE = "Europe/Amsterdam"
LOG_IN = f"""fetch("/api/v1/authentication", {{method: "POST", headers:
  {{"content-type": "application/json"}}, body: JSON.stringify({{username: "{USER}",
  password: "{PASSWORD}", cookie: true}})}}).then((answer) => answer.status)"""
# What would move between two looks at the same page.
SETTLED = """(() => {
  const busy = document.querySelector(".skeleton, [aria-busy=true]");
  const title = document.querySelector("h1")?.textContent ?? "";
  return !busy && !window.isLeft && title !== "" && title !== "…"
    && document.fonts.status === "loaded"
    ? document.querySelector("main").innerHTML.replace(/\\d+/g, "").length : 0;
})()"""
# Two pictures in squares of eight pixels: how many differ by more than a shade, for each that is
# not of the one plain colour that most of a page is.
DIFFERENCE = """(async (pictures) => {
  const [one, other] = await Promise.all(pictures.map(async (data) => {
    const image = new Image();
    image.src = `data:image/webp;base64,${data}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(image.width / 8);
    canvas.height = Math.round(image.height / 8);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }));
  if (one.width !== other.width || one.height !== other.height) return 1;
  const shade = ({ data }, at) => [data[at], data[at + 1], data[at + 2]];
  const away = (a, b) => Math.max(...a.map((part, index) => Math.abs(part - b[index])));
  const plain = [one, other].map((picture) => {
    const counts = new Map();
    for (let at = 0; at < picture.data.length; at += 4) {
      const key = String(shade(picture, at));
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1])[0][0].split(",").map(Number);
  });
  let differing = 0;
  let drawn = 0;
  for (let at = 0; at < one.data.length; at += 4) {
    const [a, b] = [shade(one, at), shade(other, at)];
    if (away(a, plain[0]) > 12 || away(b, plain[1]) > 12) drawn += 1;
    if (away(a, b) > 32) differing += 1;
  }
  return differing / Math.max(1, drawn);
})"""


def paths(names: dict[str, str]) -> dict[str, str]:
    """Return the path of each page by its name, with these for what has a name in it."""
    declared = (ROOT / "web/src/pages.ts").read_text()
    found = {"not-found": "/nowhere"}
    for path in re.findall(r'path: "(/[^"]*)"', declared):
        name = path.replace(":", "").strip("/").replace("/", "-") or "networks"
        name = name.removeprefix("networks-network-") if "sensor" in name else name
        found[name] = re.sub(r":(\w+)", lambda part: names[part[1]], path)
    return found


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a server with believable data; gives its address and the paths of its pages."""
    with ServerProcess(folder, LOG_LEVEL="error") as server:
        account = {"username": USER, "password": PASSWORD}
        # Nobody else does anything: that is what the pages tell.
        key = server.http.headers.pop("x-api-key")
        server.http.post("/setup", json={**account, "code": key}).raise_for_status()
        session = server.http.post("/authentication", json=account).raise_for_status().json()
        server.http.headers["authorization"] = f"Bearer {session['access_token']}"
        with showcase(server.http, server.mqtt_port) as shown:
            yield server.url, paths(shown.names)


def prepare(page: Page) -> None:
    """Log in, and let nothing depend on the machine."""
    page.command("Emulation.setTimezoneOverride", timezoneId=ZONE)
    page.command("Emulation.setLocaleOverride", locale="en-GB")
    page.watch()
    assert page(LOG_IN) == 200


def visit(page: Page, url: str, path: str) -> None:
    """Open a page of the dashboard, and wait until it shows what it has.

    The page that is left rests too, and is there until the other's answer comes: it is marked.
    """
    page("window.isLeft = true")
    page.command("Page.navigate", url=f"{url}/dashboard{path}")
    settle(page)


def settle(page: Page) -> None:
    """Wait until the page looks the same twice."""
    seen: list[int] = []

    def rests() -> bool:
        seen.append(page(SETTLED))
        return len(seen) > 3 and seen[-1] > 0 and len(set(seen[-3:])) == 1

    until(rests)


def shoot(page: Page, width: int, theme: str) -> bytes:
    """Return the page as WebP, at a width and in a theme."""
    page.show(width, theme, SIZES[width])
    settle(page)
    taken = page.command("Page.captureScreenshot", format="webp", quality=70)
    return base64.b64decode(taken["data"])


def looks(page: Page, url: str, path: str) -> Iterator[tuple[int, str, bytes]]:
    """Yield a page's pictures, with width and theme; the page is as it is shown meanwhile."""
    for width, height in SIZES.items():
        page.show(width, THEMES[0], height)
        visit(page, url, path)
        if (shifted := page(SHIFTED)) > MOST_SHIFTED:
            page.errors.append(f"{path} jumps by {shifted:.2f} while it is loaded, at {width}")
        for theme in THEMES:
            yield width, theme, shoot(page, width, theme)


def difference(page: Page, one: bytes, other: bytes) -> float:
    """Return how many squares differ, for each that is drawn: 0 is the same picture.

    The page is one without a Content-Security-Policy.
    """
    encoded = ", ".join(f'"{base64.b64encode(each).decode()}"' for each in (one, other))
    return float(page(f"{DIFFERENCE}([{encoded}])"))


def main(wanted: list[str]) -> None:
    with (
        shared.begin(),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        filled(Path(folder)) as (url, pages),
        browser() as opened,
        opened(f"{url}/dashboard/") as page,
    ):
        if unknown := set(wanted) - pages.keys():
            raise SystemExit(
                f"screenshots: no page {', '.join(sorted(unknown))}; there are {', '.join(pages)}"
            )
        prepare(page)
        PICTURES.mkdir(exist_ok=True)
        for name, path in pages.items():
            if wanted and name not in wanted:
                continue
            for width, theme, picture in looks(page, url, path):
                (PICTURES / f"{name}-{width}-{theme}.webp").write_bytes(picture)
                if page.overflows():
                    print(f"{name} is wider than {width} pixels")
            print(name)
        if not wanted:
            for picture in PICTURES.glob("*.webp"):
                if picture.stem.rsplit("-", 2)[0] not in pages:
                    picture.unlink()
        for error in page.errors:
            print(f"console: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
