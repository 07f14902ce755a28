"""Work counters, and times and memory as ratios to two peers: ``python -m benchmarks``, or ``make bench``.

The code that is measured is the code that the stages call. The peers are the naive loop (``naive.py``) and the trainers
of the pinned TRL release (``trl_peer.py``).
"""

import pessimism.machine.libraries  # noqa: F401
