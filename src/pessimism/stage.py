"""How a process of this project starts and how it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pessimism.errors import PessimismError


def run(main: Callable[[], object]) -> None:
    """Call ``main``; an error raised on purpose ends the process with its message and status 1, without a traceback.

    Any other exception keeps its traceback: it is a bug of this package.
    """
    try:
        main()
    except PessimismError as error:
        sys.exit(f"error: {error}")
