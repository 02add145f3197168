"""Settings of a stage's method on the command line: `--smooth.window-s 0.4`.

The settings are the fields of the method's own dataclass, read once the method is known, so that
a new method needs no line here, and a setting that does not exist is an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mvai.cli import numbers
from mvai.pipeline import DEFAULTS, STAGES, method_class, named
from mvai.types import MvaiError

StageOptions = Mapping[str, Sequence[str]]
"""Arguments for each stage, without the stage's name."""


def split(argv: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Takes `--STAGE.SETTING VALUE...` out of the arguments."""
    rest: list[str] = []
    options: dict[str, list[str]] = {stage: [] for stage in STAGES}
    target = rest
    for argument in argv:
        setting = re.match(rf"--({'|'.join(STAGES)})\.(.+)", argument)
        if setting:
            target = options[setting[1]]
            argument = f"--{setting[2]}"
        elif re.match(r"-[^\d.]", argument):
            target = rest
        target.append(argument)
    return rest, options


def config(stage: str, name: str, options: StageOptions) -> Any:
    """The settings of a method with what the command line says about them.

    Raises:
        MvaiError: there is no such method, or it has no such setting.
        SystemExit: a setting has a wrong value or is missing.
    """
    import tyro

    name, given = named(stage, name)
    cls = method_class(stage, name)
    args = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    args += options.get(stage, ())
    check_known(stage, name, cls, args)
    # The name stands in tyro's advice, "run mvai methods --help".
    settings = tyro.cli(cls, args=args, prog="mvai methods")
    numbers.check_settings(f"--{stage}", settings)
    return settings


def check_stages(options: StageOptions, known: Collection[str], where: str) -> None:
    """See that settings are given only for stages that are run.

    Raises:
        MvaiError: some are for another.
    """
    for stage, arguments in options.items():
        if arguments and stage not in known:
            raise MvaiError(
                f"--{stage}.{arguments[0].lstrip('-')}: {where} has no stage {stage}; leave it out."
            )


def check_known(stage: str, name: str, cls: type, args: Sequence[str]) -> None:
    """Sees that a method has the settings that are given.

    Raises:
        MvaiError: it lacks one.
    """
    import dataclasses

    known = [f.name.replace("_", "-") for f in dataclasses.fields(cls)]
    for argument in args:
        flag = re.match(r"--(?:no-)?([^.=]+)", argument.replace("_", "-"))
        if flag and flag[1] not in (*known, "help"):
            raise MvaiError(
                f"--{stage}.{argument[2:]}: {name} has no such setting; "
                + (f"choose one of {', '.join(known)}." if known else "it has none at all.")
            )


def describe() -> str:
    """All methods and their settings with defaults."""
    import dataclasses

    from tyro._docstrings import get_field_docstring

    lines = []
    for stage, methods in STAGES.items():
        lines.append(f"{stage}")
        for name in methods:
            try:
                cls = method_class(stage, name)
            except MvaiError as error:
                # One broken package must not hide the other methods.
                lines.append(f"  {error}")
                continue
            default = " (default)" if DEFAULTS[stage] == name else ""
            lines.append(f"  {name}{default}: {(cls.__doc__ or '').strip().splitlines()[0]}")
            for field in dataclasses.fields(cls):
                value = "" if field.default is dataclasses.MISSING else f" [{field.default}]"
                text = get_field_docstring(cls, field.name, ()) or ""
                flag = f"--{stage}.{field.name.replace('_', '-')}"
                lines.append(f"    {flag}{value}  {' '.join(text.split())}")
    return "\n".join(lines)
