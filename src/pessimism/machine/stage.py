"""How a process of this project starts and how it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pessimism.errors import PessimismError
from pessimism.machine import processes


def run(main: Callable[[], object]) -> None:
    """Run a stage script's ``main`` on one GPU, with :func:`ending_on_errors`."""
    use_one_gpu()
    ending_on_errors(main)


def ending_on_errors(main: Callable[[], object]) -> None:
    """Call ``main``; an error raised on purpose ends the process with its message and status 1, without a traceback.

    Any other exception keeps its traceback: it is a bug of this package.
    """
    try:
        main()
    except PessimismError as error:
        sys.exit(f"error: {error}")


def use_one_gpu() -> None:
    """Show a process that is alone the first GPU only: transformers would multiply the batch by the number it sees.

    Works until CUDA is first used, whatever has been imported.
    """
    if processes.count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
