"""Numbers on the command line and what they may be.

A field of a command says it in its type, as in `limit: Count | None = None`; settings of a stage's
method say it by the unit at the end of their name.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from mvai.types import MvaiError


@dataclass(frozen=True)
class Within:
    """What a number may be, both ends included."""

    least: float
    most: float = math.inf


Count = Annotated[int, Within(1)]
"""Of what there must be at least one."""
Index = Annotated[int, Within(0)]
"""Counted from 0, or of what there may be none."""
FrameRate = Annotated[float, Within(1, 1000)]
"""Frames a second; slower, what a person does cannot be followed."""
Seconds = Annotated[float, Within(0, 1e6)]
Share = Annotated[float, Within(0.001, 1)]

MOST = {"_s": 3600.0, "_hz": 1e5, "_m": 1000.0, "_px": 1e6}
"""Endings of settings that are times, rates and lengths, and what no such setting exceeds."""


def check_command(command: Any) -> None:
    """See that the numbers of a command, and of what it is made of, are what their types say.

    Raises:
        MvaiError: one is not.
    """
    hints = typing.get_type_hints(type(command), include_extras=True)
    for field in dataclasses.fields(command):
        value, flag = getattr(command, field.name), f"--{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            check_command(value)
        elif isinstance(value, int | float):
            _check_finite(flag, value)
            for within in _bounds(hints[field.name]):
                _check_within(flag, value, within)


def _bounds(hint: Any) -> Iterator[Within]:
    """Those that a type's annotation carries, also inside a union."""
    if typing.get_origin(hint) is Annotated:
        yield from (m for m in hint.__metadata__ if isinstance(m, Within))
    for part in typing.get_args(hint):
        if typing.get_origin(part) is not None:
            yield from _bounds(part)


def check_settings(where: str, settings: Any) -> None:
    """See that the numbers of a method's settings are finite, not below zero and, by their unit,
    not beyond reason.

    Raises:
        MvaiError: one is not.
    """
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), f"{where}.{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            check_settings(flag, value)
        elif isinstance(value, int | float):
            _check_finite(flag, value)
            most = next((m for unit, m in MOST.items() if field.name.endswith(unit)), math.inf)
            _check_within(flag, value, Within(0, most))


def _check_finite(flag: str, value: float) -> None:
    if not math.isfinite(value):
        raise MvaiError(f"{flag} {value:g}: this is no number to work with; give another.")


def _check_within(flag: str, value: float, within: Within) -> None:
    if value < within.least:
        low = "below zero" if within.least == 0 else f"less than {within.least:g}"
        raise MvaiError(f"{flag} {value:g}: this cannot be {low}; give another.")
    if value > within.most:
        raise MvaiError(
            f"{flag} {value:g}: this cannot be more than {within.most:g}; give another."
        )
