"""Errors that say what was found, what was expected, and what to change."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

REFUSED = 2
"""Exit status of what is refused, as of a command line that cannot be read."""
_KEPT = "run the same command again: stages that have ended are kept"
INTERRUPTED = f"error: interrupted; to go on, {_KEPT}"
FULL_DISK = f"error: found no space left on the disk; expected room for what is written: free some, then {_KEPT}"


class PessimismError(Exception):
    """Base of every error this package raises on purpose."""


class ParamsError(PessimismError, ValueError):
    """A value in params.yaml, a scale file or a protocol file is not usable."""


class DataError(PessimismError, ValueError):
    """A data file or table lacks a column, a row or a value it must have."""


class SourceError(PessimismError, OSError):
    """A model or data source is missing, out of reach, or not what was recorded."""


class HubError(SourceError):
    """The hub does not give what was asked of it."""


class NonFiniteError(PessimismError, ArithmeticError):
    """A number that must be finite is not."""


class ResourceError(PessimismError, OSError):
    """This machine lacks the disk, the memory or the device that a stage needs."""


def ending_on_errors(main: Callable[[], object]) -> None:
    """Call ``main``; an error raised on purpose ends the process with its message and status 2, without a traceback.

    So do a full disk and, with status 130, an interrupt. Any other exception keeps its traceback: it is a bug of this
    package.
    """
    try:
        main()
    except PessimismError as error:
        _end(f"error: {error}", REFUSED)
    except KeyboardInterrupt:
        _end(INTERRUPTED, 130)
    except Exception as error:
        if not is_full_disk(error):
            raise
        _end(FULL_DISK, REFUSED)


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def in_one_line(error: BaseException) -> str:
    """Type and text of an error of a library, whose own line breaks become spaces."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls for an exception that nothing caught: an interrupt and a full disk are told in one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    elif is_full_disk(error):
        print(FULL_DISK, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk or a quota was full, which libraries tell by the number of the error or in words."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or os.strerror(errno.ENOSPC) in str(error)
