"""What can go wrong between the driver, its jobs and the remote."""

from pessimism.errors import PessimismError


class FanoutError(PessimismError, RuntimeError):
    """Cells cannot be fanned out as asked, or some of them failed."""
