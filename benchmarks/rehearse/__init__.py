"""The passes of every stage at a scale's own sizes, on random weights: what they take here, beside what is planned.

No weight is downloaded: ``python -m benchmarks.rehearse --scale paper``. docs/paper-scale.md says what it tells.
"""
