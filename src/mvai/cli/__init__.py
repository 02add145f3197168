"""The `mvai` command: thin over `mvai.api`; nothing heavy is imported before it is needed."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

from mvai.types import MvaiError, MvaiWarning

FAILED = 2
"""Exit code for bad input and for an interrupted run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from mvai.cli.bars import terminal_report
    from mvai.cli.commands import parse

    quiet_libraries()
    report = terminal_report()
    handler = _Notes(report)
    logging.getLogger("mvai").addHandler(handler)
    command = None
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", MvaiWarning)
                warnings.showwarning = lambda message, *_: report.note(str(message))
            command, settings = parse(list(sys.argv[1:] if argv is None else argv))
            command.run(settings, report)
            sys.stdout.flush()
        return 0
    except MvaiError as error:
        report.note(str(error))
        return FAILED
    except KeyboardInterrupt:
        report.note(_interrupted(command))
        return FAILED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has had enough. What is left in the buffer must
        # go somewhere, or Python complains when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        # Such as a folder that may not be looked into: wherever it is met, the user can mend it.
        if error.filename is None:
            raise
        report.note(f"{error.filename}: {_reason(error)}; check the path and its rights.")
        return FAILED
    finally:
        logging.getLogger("mvai").removeHandler(handler)


def _reason(error: OSError) -> str:
    """What the system says, as a part of a sentence."""
    return (error.strerror or str(error)).lower()


def _interrupted(command: object) -> str:
    """What to tell the user after Ctrl-C."""
    from mvai.imitation import kept_path

    # Only commands that can go on from kept stages have this setting.
    keep = kept_path(getattr(command, "outputs", ())) if hasattr(command, "resume") else None
    if keep is None or not keep.exists():
        return "Interrupted; nothing was left half-written."
    return f"Interrupted; finished stages are kept in {keep}, the same command goes on from there."


class _Notes(logging.Handler):
    """Warnings of this package become notes between the progress bars."""

    def __init__(self, report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.note(record.getMessage())


def quiet_libraries() -> None:
    """Turns the logs of the libraries underneath down to errors."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("EGL_LOG_LEVEL", "fatal")
    for name in ("absl", "matplotlib", "trimesh", "libav"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
