"""Run by Python at start: notes of every stage that begins its name and process, for ``benchmarks.chaos``."""

import os

if "DVC_STAGE" in os.environ and "CHAOS_TRACE" in os.environ:
    with open(os.environ["CHAOS_TRACE"], "a") as trace:
        trace.write(f"{os.environ['DVC_STAGE']} {os.getpid()}\n")
