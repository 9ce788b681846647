"""JSON Merge Patch (RFC 7396): pure, a file of its own for its own tests."""

from typing import Any


def merge(target: Any, patch: Any) -> Any:
    """Return what the patch makes of the target, neither of which changes.

    Both have a bounded depth. Members that are null in the patch are removed; a patch that is
    no object takes the target's place (RFC 7396, 2).
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, member in patch.items():
        if member is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), member)
    return merged
