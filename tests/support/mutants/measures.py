"""Bugs in the measures: gaps and areas, trends, intervals, the power law and beta*."""

from support.mutants.mutant import Mutant

_GOODHART = "measures/goodhart.py"
_STAR = "measures/beta_star.py"
_LAW = "measures/power_law.py"
_EQUAL_KL = "measures/equal_kl.py"
_FORMS = "measures/forms.py"
_SELECTION = "measures/best_of_n.py"
_DETECTORS = "measures/detectors.py"
_JUDGED = ("test_detectors.py",)
_GAPS = ("test_goodhart.py",)
_STARS = ("test_beta_star.py",)
_LAWS = ("test_power_law.py",)
_COMPARED = ("test_forms.py",)
_CHOSEN = (
    "test_best_of_n.py::test_weights_by_hand",
    "test_best_of_n.py::test_the_estimate_is_the_mean_over_all_subsets",
)

MUTANTS = (
    Mutant("a baseline keeps its sign", _GOODHART, "reward_T / (abs(start) + EPS)", "reward_T / (start + EPS)", _GAPS),
    Mutant(
        "the gap is the true reward's",
        _GOODHART,
        "_relative(proxy_reward_T, proxy_baseline) - _relative(true_reward_T, true_baseline)",
        "_relative(true_reward_T, true_baseline) - _relative(proxy_reward_T, proxy_baseline)",
        _GAPS,
    ),
    Mutant(
        "the controlled change is not since step 0", _GOODHART, "(reward_T - reward_T[0]) / sd", "reward_T / sd", _GAPS
    ),
    Mutant(
        "AUGC is not clipped",
        _GOODHART,
        "return signed_augc(steps_T, np.maximum(gap_T, 0.0))",
        "return signed_augc(steps_T, gap_T)",
        _GAPS,
    ),
    Mutant("AUGC counts points, not steps", _GOODHART, "np.trapezoid(gap_T, steps_T)", "np.trapezoid(gap_T)", _GAPS),
    Mutant("steps may repeat", _GOODHART, "np.any(np.diff(steps_T) <= 0)", "np.any(np.diff(steps_T) < 0)", _GAPS),
    Mutant("the threshold is of all gaps", _GOODHART, "pooled[pooled > 0]", "pooled[pooled > -np.inf]", _GAPS),
    Mutant("the threshold is the median", _GOODHART, "THRESHOLD_PERCENTILE = 75", "THRESHOLD_PERCENTILE = 50", _GAPS),
    Mutant(
        "the onset is at the threshold itself",
        _GOODHART,
        "np.asarray(gap_T) > threshold",
        "np.asarray(gap_T) >= threshold",
        _GAPS,
    ),
    Mutant("the onset is the last step", _GOODHART, "int(steps_T[above[0]])", "int(steps_T[above[-1]])", _GAPS),
    Mutant(
        "regret with the winner's luck",
        _GOODHART,
        "valuing_T[choosing_T.argmax()]",
        "valuing_T[valuing_T.argmax()]",
        _GAPS,
    ),
    Mutant(
        "the smoothed deviation may vanish",
        _GOODHART,
        "(mean * count + 0.5) / (count + 1)",
        "(mean * count) / count",
        _GAPS,
    ),
    Mutant(
        "each of two equal scores is the best",
        _SELECTION,
        'rankdata(selector_P_N, method="min", axis=1).astype(int) - 1',
        'rankdata(selector_P_N, method="max", axis=1).astype(int) - 1',
        _CHOSEN,
    ),
    Mutant("the best of one draw fewer", _SELECTION, "math.comb(below, n) /", "math.comb(below, n - 1) /", _CHOSEN),
    Mutant(
        "the KL of selection is ln n",
        _SELECTION,
        "np.log(n) - (n - 1) / n",
        "np.log(n)",
        ("test_best_of_n.py::test_kl_is_that_of_the_largest_of_n",),
    ),
    Mutant("Eq. 15 over twice the minimum", _LAW, "DANGER_RATIO = 1.5", "DANGER_RATIO = 2.0", _LAWS + _STARS),
    Mutant("the grid begins at the smallest beta", _LAW, "0.1 * self.betas[0]", "self.betas[0]", _LAWS),
    Mutant(
        "three points are not saturated", _LAW, "len(self.betas) <= PARAMETERS", "len(self.betas) < PARAMETERS", _LAWS
    ),
    Mutant("a flat fit passes", _LAW, "FLAT = 1e-3", "FLAT = 0.0", _LAWS),
    Mutant("an AUGC of 0 has an infinite start", _LAW, "np.log(high / max(low, EPS))", "np.log(high / low)", _LAWS),
    Mutant(
        "beta* is at the level itself",
        _LAW,
        "self(self.grid) > level",
        "self(self.grid) >= level",
        _LAWS,
        equivalent="a smooth curve meets the level exactly at no point of the grid",
    ),
    Mutant(
        "a trade adds quality to the cost", _STAR, "augc_K - weight * offline_K", "augc_K + weight * offline_K", _STARS
    ),
    Mutant("a trade of raw units", _STAR, "weight = np.ptp(augc_K) / np.ptp(offline_K)", "weight = 1.0", _STARS),
    Mutant("rounding decides a trade", _STAR, "_ROUNDING = 1e-9", "_ROUNDING = 0.0", _STARS),
    Mutant("the placebo's level is its median", _STAR, "PLACEBO_PERCENTILE = 95", "PLACEBO_PERCENTILE = 50", _STARS),
    Mutant("half of the resamples identify", _STAR, "IDENTIFYING_SHARE = 0.95", "IDENTIFYING_SHARE = 0.5", _STARS),
    Mutant(
        "a beta that ranges over all is identified",
        _STAR,
        "if star.interval == Interval(float(betas[0]), float(betas[-1])):",
        "if False:",
        _STARS,
    ),
    Mutant("one seed has an interval", _STAR, "if seeds < 2:", "if seeds < 1:", _STARS),
    Mutant("resamples weigh alike", _STAR, "[w for _, w in found]", "[1.0 for _, w in found]", _STARS),
    Mutant("AIC without its correction", _FORMS, "+ 2 * estimated + correction", "+ 2 * estimated", _COMPARED),
    Mutant("the variance is no parameter", _FORMS, "len(y), parameters + 1", "len(y), parameters", _COMPARED),
    Mutant(
        "a left-out beta is fitted",
        _FORMS,
        "_fit(form, np.delete(x, index), np.delete(y, index))",
        "_fit(form, x, y)",
        _COMPARED,
    ),
    Mutant(
        "the logarithm is of AUGC's line",
        _FORMS,
        "np.log if form is Form.LOG_LINEAR",
        "np.log1p if form is Form.LOG_LINEAR",
        _COMPARED,
    ),
    Mutant("five betas are enough", _FORMS, "FEWEST_BETAS = 6", "FEWEST_BETAS = 5", _COMPARED),
    Mutant(
        "a run is read where it last is so far",
        _EQUAL_KL,
        "first = int(reached[0])",
        "first = int(reached[-1])",
        ("test_equal_kl.py::test_a_path_that_turns_back_is_read_at_its_first_crossing", "test_equal_kl.py"),
    ),
    Mutant(
        "problems are resampled and seeds are not",
        _EQUAL_KL,
        "generator.choice(len(weight_M), RESAMPLES, p=weight_M)",
        "np.zeros(RESAMPLES, dtype=int)",
        ("test_equal_kl.py",),
    ),
    Mutant(
        "seeds are always drawn whole",
        _EQUAL_KL,
        "run_resamples(seeds, betas, paired)",
        "run_resamples(seeds, betas, True)",
        ("test_equal_kl.py",),
    ),
    Mutant("the area is not up to the step", _DETECTORS, "np.cumsum(", "np.sum(", _JUDGED),
    Mutant(
        "spread is not relative to step 0",
        _DETECTORS,
        'return 1 - run["proxy_reward_sd"] / run["proxy_reward_sd"][0]',
        'return run["proxy_reward_sd"][0] - run["proxy_reward_sd"]',
        _JUDGED,
    ),
    Mutant(
        "the threshold leaves the new run out", _DETECTORS, "(len(highest_R) + 1) * (1", "len(highest_R) * (1", _JUDGED
    ),
    Mutant(
        "an alarm is raised at the threshold",
        _DETECTORS,
        "np.asarray(statistic_T) > threshold",
        "np.asarray(statistic_T) >= threshold",
        _JUDGED,
    ),
    Mutant(
        "exploits are compared with each step's own",
        _DETECTORS,
        "np.percentile(counts_T_N[0], COUNT_PERCENTILE)",
        "np.percentile(counts_T_N, COUNT_PERCENTILE)",
        _JUDGED,
    ),
    Mutant(
        "states are compared without their scale",
        _DETECTORS,
        "np.linalg.inv(covariance_H_H + ridge_H_H)",
        "np.eye(size)",
        _JUDGED,
    ),
)
