"""Bugs planted one at a time, which the tests nearest to them must notice; ``make mutants`` plants them.

docs/mutants.md, which it writes, says which test noticed each.
"""

from support.mutants import (
    claims,
    compute,
    data,
    measures,
    objectives,
    offline,
    online,
    probes,
    refusals,
    repro,
    reward,
    scoring,
    worlds,
)
from support.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *measures.MUTANTS,
    *scoring.MUTANTS,
    *claims.MUTANTS,
    *data.MUTANTS,
    *objectives.MUTANTS,
    *reward.MUTANTS,
    *offline.MUTANTS,
    *online.MUTANTS,
    *compute.MUTANTS,
    *probes.MUTANTS,
    *refusals.MUTANTS,
    *repro.MUTANTS,
    *worlds.MUTANTS,
)
