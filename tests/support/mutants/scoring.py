"""Bugs."""

from support.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = ()
