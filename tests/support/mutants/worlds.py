"""Bugs where several worlds are judged together."""

from support.mutants.mutant import Mutant

_POOLING = "measures/pooling.py"
_WORLDS = "claims/worlds.py"
_COMMAND = "commands/pool.py"
_REVISIONS = "runs/revisions.py"
_MEASURED = ("test_pooling.py",)
_JUDGED = ("test_pool.py",)
_REFUSED = ("test_failure_modes.py::test_a_bad_input_gets_one_line",)

MUTANTS = (
    Mutant("worlds by a normal quantile", _POOLING, "t_quantile(worlds - 1) * spread", "1.96 * spread", _MEASURED),
    Mutant(
        "one more world lies as the mean does",
        _POOLING,
        "math.sqrt(1 + 1 / worlds)",
        "math.sqrt(1 / worlds)",
        _MEASURED,
    ),
    Mutant(
        "the spread of worlds by the population's",
        _POOLING,
        "float(effects_W.std(ddof=1))",
        "float(effects_W.std())",
        _MEASURED,
    ),
    Mutant(
        "the signs of neighbouring worlds flip together",
        _POOLING,
        "np.array(list(product((-1, 1), repeat=worlds)))",
        "np.repeat(np.array(list(product((-1, 1), repeat=(worlds + 1) // 2))), 2, axis=1)[:, :worlds]",
        _MEASURED,
    ),
    Mutant("drawn signs may reach p = 0", _POOLING, "signs / worlds, True, 1)", "signs / worlds, False, 1)", _MEASURED),
    Mutant(
        "drawn signs follow the order of worlds", _POOLING, "np.sort(effects_E_W, axis=1)", "effects_E_W", _MEASURED
    ),
    Mutant("tau holds the seeds' noise", _POOLING, "max(0.0, between - within)", "max(0.0, between)", _MEASURED),
    Mutant(
        "the share's degrees are one world's",
        _POOLING,
        "degrees = within**2 /",
        "degrees = (within / len(errors_W)) ** 2 /",
        _MEASURED,
    ),
    Mutant("a share may be negative", _POOLING, "max(0.0, 1 - 1 / ratio)", "1 - 1 / ratio", _MEASURED),
    Mutant("the effect is that of the lowest beta", _WORLDS, "np.array([-1.0, 1.0])", "np.array([1.0, -1.0])", _JUDGED),
    Mutant("an experiment of any name", _REVISIONS, "[4:] == [revision]", "[4:]", _JUDGED),
    Mutant("runs of other parameters pass", _REVISIONS, "if found != expected:", "if False:", _REFUSED),
    Mutant("a world may stand twice", _COMMAND, "if worlds[one] == worlds[other]:", "if False:", _JUDGED),
    Mutant(
        "results may stand twice",
        _COMMAND,
        "if np.array_equal(values[one], values[other]):",
        "if False:",
        _REFUSED,
    ),
    Mutant("designs may differ", _COMMAND, "if first.get(key) != design.get(key)", "if False", _JUDGED),
    Mutant(
        "a root seed makes a world of given models",
        _COMMAND,
        "([ROOT_SEED] if embedded else [])",
        "[ROOT_SEED]",
        _JUDGED,
    ),
)
