"""Every page of the dashboard with data: as accepted, accessible, no wider than its window."""

import json
from pathlib import Path

import pytest

from browser import CHROMIUM, browser
from screenshots import PICTURES, difference, filled, looks, paths, prepare

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
# What other fonts, other hours on an axis and other ages ("12 s ago") may change.
TOLERATED = 0.1


@pytest.mark.skipif(not AXE.exists(), reason="scripts/dashboard has installed nothing here")
def test_every_page_is_accessible_fits_and_looks_as_accepted(tmp_path: Path) -> None:
    axe = AXE.read_text()
    found: list[tuple[object, ...]] = []
    taken: dict[str, bytes] = {}
    with (
        filled(tmp_path) as (url, pages),
        browser() as opened,
        opened(f"{url}/dashboard/") as page,
    ):
        prepare(page)
        for name, path in pages.items():
            for width, theme, picture in looks(page, url, path):
                here = (name, width, theme)
                if page.overflows():
                    found.append((*here, "too wide"))
                taken[f"{name}-{width}-{theme}.webp"] = picture
                page(axe)
                told = page("axe.run().then((result) => JSON.stringify(result.violations))")
                found.extend(
                    (*here, each["id"], [node["html"] for node in each["nodes"]][:3])
                    for each in json.loads(told)
                    if each["impact"] in ("serious", "critical")
                )
        assert page.errors == []
        page.command("Page.navigate", url="about:blank")
        for file, picture in taken.items():
            accepted = PICTURES / file
            if not accepted.exists():
                found.append((file, "is not accepted yet: ./scripts/screenshots"))
            elif (away := difference(page, accepted.read_bytes(), picture)) > TOLERATED:
                found.append((file, f"{away:.0%} of it differ: ./scripts/screenshots"))
                (tmp_path / file).write_bytes(picture)
    assert found == [], f"new pictures are in {tmp_path}"


def test_no_picture_is_of_a_page_that_is_gone() -> None:
    class Anything(dict[str, str]):
        def __missing__(self, name: str) -> str:
            return name

    pictured = {picture.stem.rsplit("-", 2)[0] for picture in PICTURES.glob("*.webp")}
    assert pictured <= paths(Anything()).keys()
