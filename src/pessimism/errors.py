"""Errors that say what was found, what was expected, and what to change."""


class PessimismError(Exception):
    """Base of every error this package raises on purpose."""


class ParamsError(PessimismError, ValueError):
    """A value in params.yaml, a scale file or a protocol file is not usable."""


class DataError(PessimismError, ValueError):
    """A data file or table lacks a column, a row or a value it must have."""


class SourceError(PessimismError, OSError):
    """A model or data source is missing, out of reach, or not what was recorded."""


class NonFiniteError(PessimismError, ArithmeticError):
    """A number that must be finite is not."""


class ResourceError(PessimismError, OSError):
    """This machine lacks the disk, the memory or the device that a stage needs."""
