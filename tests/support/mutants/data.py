"""Bugs in the embedded world: its annotator, and what its texts show."""

from support.mutants.mutant import Mutant

_ANNOTATOR = "data/annotator.py"
_WORLD = "data/embedded_world.py"
_COUNTED = ("test_annotator.py",)
_DRAWN = ("test_embedded_world.py",)

MUTANTS = (
    Mutant("the first marker counts", _ANNOTATOR, "max(text.count(MARKER) - 1, 0)", "text.count(MARKER)", _COUNTED),
    Mutant("every line counts as work again", _ANNOTATOR, "len(lines) - len(set(lines))", "len(lines) - 1", _COUNTED),
    Mutant(
        "a second exploit is worth nothing",
        _ANNOTATOR,
        "+ annotator.bias * exploits",
        "+ annotator.bias * min(exploits, 1)",
        _COUNTED,
    ),
    Mutant(
        "the annotator chooses the worse", _ANNOTATOR, "math.exp(second - first)", "math.exp(first - second)", _COUNTED
    ),
    Mutant(
        "the base shows exploits however rarely it should",
        _WORLD,
        "rng.choice((0.0, most / 2, most))",
        "rng.choice((0.0, 0.3, 0.6))",
        _DRAWN,
    ),
    Mutant(
        "labels take no heed of the bias",
        _WORLD,
        "[utility(annotator, side.correct, side.exploits) for side",
        "[utility(annotator, side.correct, 0) for side",
        _DRAWN,
    ),
)
