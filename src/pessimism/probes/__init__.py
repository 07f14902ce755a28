"""What a checkpoint is like inside, one file per probe: entropy, divergence, place and spread of its responses.

Every probe of the room is run. What probes share lies in ``parts``. A probe's file imports no torch: tables and pages
read its columns. Knows nothing of what the numbers are compared with.
"""
