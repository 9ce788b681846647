"""How many there are of something, as people write it."""


def counted(count: int, noun: str) -> str:
    """Return how many there are of what the noun names, one of it: 1 row, 2,400 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
