"""Write docs/failure-modes.md."""

from support.failures import FAILURES
from support.failures.page import PAGE, page

PAGE.write_text(page(FAILURES), encoding="utf-8")
