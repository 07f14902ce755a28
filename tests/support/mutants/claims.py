"""Bugs in tests and verdicts: correlations, families of p-values, directions."""

from support.mutants.mutant import Mutant

_TRENDS = "measures/trends.py"
_INTERVALS = "measures/intervals.py"
_VERDICTS = "claims/verdicts.py"
_CONTRASTS = "measures/contrasts.py"
_MECHANISM = "claims/mechanism.py"
_ARMS = "claims/arm_contrasts.py"
_POWER = "claims/contrast_power.py"
_HOLM = ("test_trends.py::test_holm_by_hand",)
_JUDGED = ("test_verdicts.py",)
_CONTRAST = ("test_contrasts.py",)
_DOORS = ("test_arm_contrasts.py",)
_SIMULATED = ("test_contrast_power.py",)
_SPREAD = ("test_intervals.py",)
_LINK = (
    "test_mechanism.py::test_p_and_null_interval_against_enumeration",
    "test_mechanism.py::test_many_betas_are_drawn_and_agree_with_enumeration",
)

MUTANTS = (
    Mutant(
        "two points correlate",
        _TRENDS,
        "len(values_x) < 3",
        "len(values_x) < 2",
        ("test_trends.py::test_nothing_to_correlate",),
    ),
    Mutant(
        "an exact p leaves out what is observed",
        _TRENDS,
        "null >= observed - _ROUNDING if",
        "null > observed + _ROUNDING if",
        ("test_trends.py::test_exact_p_by_counting_orders",),
    ),
    Mutant("Holm is Bonferroni", _TRENDS, "axis=-1) * np.arange(count, 0, -1)", "axis=-1) * count", _HOLM),
    Mutant("Holm's p may fall", _TRENDS, "np.maximum.accumulate(stepped, axis=-1)", "stepped", _HOLM),
    Mutant(
        "Holm's p may exceed 1",
        _TRENDS,
        "axis=-1), 1.0), axis=-1)",
        "axis=-1), 99.0), axis=-1)",
        ("test_trends.py::test_holm_lies_between_p_and_bonferroni_and_keeps_the_order",),
    ),
    Mutant("the level itself is not enough", _VERDICTS, "if adjusted <= ALPHA:", "if adjusted < ALPHA:", _JUDGED),
    Mutant("a level of 10 %", _VERDICTS, "ALPHA = 0.05", "ALPHA = 0.1", _JUDGED),
    Mutant(
        "nothing is contradicted", _VERDICTS, "elif opposite is not None and opposite <= ALPHA:", "elif False:", _JUDGED
    ),
    Mutant("one of two parts is enough", _VERDICTS, "max(first.p, second.p)", "min(first.p, second.p)", _JUDGED),
    Mutant(
        "a two-sided p is one-sided", _VERDICTS, "2 * np.minimum(rises, falls)", "np.minimum(rises, falls)", _JUDGED
    ),
    Mutant(
        "claims of a fall are tested for a rise",
        _VERDICTS,
        "return rises if predicted == RISES else falls",
        "return rises",
        _JUDGED,
    ),
    Mutant(
        "a missing run is no reason",
        _VERDICTS,
        "if not len(values) or np.isnan(values).any():",
        "if not len(values):",
        _JUDGED,
    ),
    Mutant(
        "a link's p is one-sided",
        _MECHANISM,
        "np.abs(null) >= abs(observed) - 1e-12",
        "null >= observed - 1e-12",
        _LINK,
    ),
    Mutant(
        "drawn pairings lack the observed one",
        _MECHANISM,
        "return np.append(drawn, np.mean([x_K @ y_K for x_K, y_K in ranked]))",
        "return drawn",
        ("test_mechanism.py",),
    ),
    Mutant(
        "one of both tests is enough",
        _CONTRASTS,
        "np.maximum(first[0], second[0]), np.maximum(first[1], second[1])",
        "np.minimum(first[0], second[0]), np.minimum(first[1], second[1])",
        _CONTRAST,
    ),
    Mutant(
        "paired runs change places between seeds",
        _CONTRASTS,
        "    if not paired:\n        return groups_ps",
        "    if True:\n        return groups_ps",
        _CONTRAST,
    ),
    Mutant(
        "unpaired runs are paired",
        _CONTRASTS,
        "    if not paired:\n        return groups_ps",
        "    if False:\n        return groups_ps",
        _CONTRAST,
    ),
    Mutant(
        "Welch's error by the population's variance",
        _CONTRASTS,
        "group.var(axis=1, ddof=1)",
        "group.var(axis=1)",
        _CONTRAST,
    ),
    Mutant(
        "the error over seeds by the population's",
        _CONTRASTS,
        "sums_E_S.std(axis=1, ddof=1)",
        "sums_E_S.std(axis=1)",
        _CONTRAST,
    ),
    Mutant(
        "drawn arrangements may reach p = 0",
        _CONTRASTS,
        "1 / (ways if ways <= MOST_ENUMERATED else RESAMPLES + 1)",
        "1 / (ways if ways <= MOST_ENUMERATED else RESAMPLES)",
        _CONTRAST,
    ),
    Mutant("infinity stays infinity", _CONTRASTS, "    if endless.any():", "    if False:", _CONTRAST),
    Mutant("a t interval by the population's deviation", _INTERVALS, "finite.std(ddof=1)", "finite.std()", _SPREAD),
    Mutant(
        "the residual stays in the seeds' variance",
        _INTERVALS,
        "by_seed.var(ddof=1)) - residual / prompts",
        "by_seed.var(ddof=1))",
        _SPREAD,
    ),
    Mutant("a component may be negative", _INTERVALS, "max(seed, 0.0)", "seed", _SPREAD),
    Mutant("AUROC of right answers", _INTERVALS, "ranks[is_wrong].sum()", "ranks[~is_wrong].sum()", _SPREAD),
    Mutant("an interval of 90 %", _INTERVALS, "CONFIDENCE = 0.95", "CONFIDENCE = 0.90", _SPREAD),
    Mutant(
        "arms are compared over means",
        _ARMS,
        "- both[QUANTITY.name].to_numpy()",
        "- both[QUANTITY.name].mean()",
        _DOORS,
    ),
    Mutant(
        "arms are compared by row",
        _ARMS,
        'runs[run].merge(others, on=run, how="left", indicator=True)',
        'others.assign(_merge="both")',
        _DOORS,
    ),
    Mutant(
        "the spread is the standard error",
        _ARMS,
        "float(ends.error[0] * np.sqrt(len(values_S_K)))",
        "float(ends.error[0])",
        _DOORS,
    ),
    Mutant(
        "the offline contrast is the coupled arm's",
        _ARMS,
        "OFFLINE: Contrast(uncoupled)",
        "OFFLINE: Contrast(primary)",
        _DOORS,
    ),
    Mutant(
        "the coupling is the other way round",
        _ARMS,
        "COUPLING: Contrast(primary, uncoupled)",
        "COUPLING: Contrast(uncoupled, primary)",
        _DOORS,
    ),
    Mutant(
        "a rise is a fall",
        _VERDICTS,
        "if p_rises is not None and p_rises <= ALPHA",
        "if p_falls is not None and p_falls <= ALPHA",
        _DOORS,
    ),
    Mutant(
        "any fixed arm is the uncoupled one",
        "experiment/params.py",
        "self.arm(other) == arm.uncoupled",
        'self.arm(other).kappa == "fixed"',
        ("test_pool.py",),
    ),
    Mutant("an arm without coupling has a second one", "experiment/params.py", "if arm.is_coupled and ", "if ", _DOORS),
    Mutant(
        "noise that arms share is opposite in them",
        _POWER,
        "noise + levels_A_1",
        "noise * np.array([[1], [-1]]) + levels_A_1",
        _SIMULATED,
    ),
    Mutant(
        "without an effect the observed one is drawn",
        _POWER,
        "share * (means_A_K - levels_A_1)",
        "max(share, 0.5) * (means_A_K - levels_A_1)",
        _SIMULATED,
    ),
    Mutant(
        "unpaired betas are drawn as paired ones",
        "measures/power.py",
        "covariance if paired else covariance * np.equal.outer(beta_N, beta_N)",
        "covariance",
        ("test_power.py",),
    ),
    Mutant(
        "a seed's level is spread",
        "measures/power.py",
        "if paired else 0.0",
        "if not paired else 0.0",
        ("test_power.py",),
    ),
)
