"""Errors that say what was found, what was expected, and what to change."""

from __future__ import annotations

import sys
from collections.abc import Callable


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
    """Call ``main``; an error raised on purpose ends the process with its message and status 1, without a traceback.

    Any other exception keeps its traceback: it is a bug of this package.
    """
    try:
        main()
    except PessimismError as error:
        sys.exit(f"error: {error}")
