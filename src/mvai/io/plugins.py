"""Methods that other installed packages bring, by entry points (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points


@lru_cache(maxsize=4)
def _installed(group: str) -> EntryPoints:
    """The entry points of a group; looking costs some milliseconds."""
    return entry_points(group=group)


def with_installed(stage: str, own: Mapping[str, str]) -> dict[str, str]:
    """A stage's methods and those of other packages: name to "module:Class".

    Args:
        stage: detect, reconstruct, smooth or transfer; the entry point group is `mvai.<stage>`.
        own: methods that ship with mvai; no other package takes their names.
    """
    found = {e.name: e.value.replace(" ", "") for e in _installed(f"mvai.{stage}")}
    return {**found, **own}
