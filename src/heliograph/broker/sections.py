"""A part of a text file that is ours, between two marks; what others wrote stays as it is."""

BEGIN = "# ---- heliograph: written by it, changed by it; other lines belong outside of this"
END = "# ---- heliograph: end"


class BrokenSectionError(ValueError):
    """A file has one of the marks without the other, or twice: nobody knows what is whose."""


def split(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines before our part, those of it, and those after it.

    Raises:
        BrokenSectionError: the marks don't fit together.
    """
    lines = text.splitlines()
    begins = [at for at, line in enumerate(lines) if line == BEGIN]
    ends = [at for at, line in enumerate(lines) if line == END]
    if not begins and not ends:
        return lines, [], []
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise BrokenSectionError("the lines that mark Heliograph's part don't fit together")
    first, last = begins[0], ends[0]
    return lines[:first], lines[first + 1 : last], lines[last + 1 :]


def join(before: list[str], own: list[str], after: list[str]) -> str:
    """Return the text of a file with our part in its place."""
    return "\n".join([*before, BEGIN, *own, END, *after, ""])
