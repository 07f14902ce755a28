"""The page's sections: which sentence, figure and table stands where."""

from __future__ import annotations

from dataclasses import asdict

from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.experiment.switches import changes, protocol_sentence, spelled
from pessimism.published import printed
from pessimism.reporting import (
    appendix_f,
    best_of_n,
    beta_star_tables,
    captions,
    claim_tables,
    contrast_tables,
    curves,
    equal_kl_tables,
    lead,
    measure_tables,
    mechanism_tables,
    page,
    sample_cards,
    tables,
)
from pessimism.reporting.glossary import glossary
from pessimism.reporting.page import Section, folded, note, paragraph
from pessimism.reporting.results import Results
from pessimism.scoring.column import MORE
from pessimism.scoring.columns import shown_in
from pessimism.scoring.scores import beta_label


def all_sections(results: Results) -> list[Section]:
    """In the order of the page."""
    return [
        Section("Does offline conservatism change hacking?", _answer(results)),
        Section("The paper's claims", _claims(results)),
        Section("Rewards on held-out problems", _heldout(results)),
        Section("Responses, before and after", _responses(results)),
        Section("Two measures of hacking", _measures(results)),
        Section("At equal KL", _equal_kl(results)),
        Section("Realised conservatism", _conservatism(results)),
        Section("Best of n", _best_of_n(results)),
        Section("Mechanism", _mechanism(results)),
        Section("AUGC over beta, and β*", _power_law(results)),
        Section("Appendix F", _appendix_f(results)),
        Section("How it was measured", _method(results)),
    ]


def _figure(name: str, alternative: str, caption: str) -> str:
    return page.figure(layout.figure(name), alternative, caption)


def _answer(results: Results) -> list[str]:
    contrasts, claims = results.claims["contrasts"], results.claims["claims"]
    levels = curves.beta_levels(results.cells)
    return [
        paragraph(lead.QUESTION),
        *map(page.answer, lead.answer(contrasts, results.hacking, claims, levels)),
        _figure(
            "answer",
            "Hacking of every run over beta, and what beta does to it in all and through either door",
            f"{captions.answer_caption(results.params)} Bars: means over seeds, with their 95 % t interval. Right: the "
            "difference of the highest minus the lowest β with its 95 % interval; below 0 means less hacking at the "
            "highest β, red that this contradicts the paper, green that it supports it, grey that it is undecided.",
        ),
        page.table(contrast_tables.contrasts_table(contrasts)),
        folded(
            "The same in full, and how it is judged",
            *map(paragraph, contrast_tables.answer(contrasts)),
            note(contrast_tables.levels_sentence(contrasts)),
        ),
        folded("The words of this page", glossary()),
    ]


def _claims(results: Results) -> list[str]:
    claims, design = results.claims["claims"], results.claims["design"]
    paired = design["paired_seeds"]
    return [
        paragraph(claim_tables.verdict_sentence(claims, results.params.ensembles)),
        paragraph(
            "The paper's measure is its own formulas on the rewards and probes that the protocol names. The controlled "
            "one has the same formula under every protocol: changes since step 0 on held-out problems, in standard "
            "deviations of the base policy, minus what a placebo run with learning rate 0 shows; probes on responses, "
            "by all reward models. Responses are drawn and scored as the protocol says."
        ),
        paragraph(claim_tables.design_sentence(design, claims)),
        page.table(claim_tables.claims_table(claims)),
        _figure(
            "claims",
            "Every claim's difference between the highest and the lowest beta with its interval, by either measure",
            "Highest β minus lowest of every claim about a trend, with its 95 % interval, in standard deviations of "
            "the seeds of one β, so that claims of all units stand on one axis. "
            "To the right is what the paper says. Claims without such a difference are in the table alone.",
        ),
        note(
            f"Arm {design['arm']}. Highest β minus lowest: mean over seeds with its 95 % "
            f"{'t interval over seeds' if paired else 'Welch interval'}. ρ: rank correlation with β "
            f"{'within a seed, mean over seeds' if paired else 'over all runs'}. p: the larger one of a permutation of "
            "the runs and of a t test, in the direction the paper states and, under it where it is below 1, in the "
            "opposite one; adjusted (Holm) over the secondary claims of a measure, and as it is for the primary "
            f"claim. Supported or contradicted: the p of that direction is at most {tables.number(design['alpha'])}; "
            "open: neither. The primary claim was named before the runs; a secondary verdict is a finding to "
            "be repeated."
        ),
        paragraph(claim_tables.power_sentence(claims)),
        paragraph(mechanism_tables.collapse_sentence(claims, results.primary)),
        paragraph(claim_tables.published_sentences(claims)),
        folded("The tests behind the verdicts", page.table(claim_tables.tests_table(claims))),
    ]


def _heldout(results: Results) -> list[str]:
    arms = results.arms
    return [
        paragraph("Reward hacking is a rising proxy reward with a falling true reward, beyond what the placebo shows."),
        _figure(
            "heldout",
            "Held-out proxy and true reward over online steps, per beta",
            captions.heldout_caption(results.base, results.params),
        ),
        _figure(
            "portrait",
            "Change of the true reward over the change of the proxy reward, a path per run, per arm",
            "One panel per arm that learns: both rewards since step 0, thin for every seed, thick for their mean, from "
            "pale at the first step to full at the last. Hacking runs to the right and down. Colour is β.",
        ),
        page.table(measure_tables.heldout_outcome(results.cells, arms)),
        note(
            "Change from step 0 to the last evaluation: mean over seeds, each seed under it. Above the placebo: minus "
            "the change of the placebo of the same checkpoint. KL is to the DPO checkpoint (k1)."
        ),
        folded(
            "Starting points, disagreement, lengths", page.table(measure_tables.heldout_details(results.cells, arms))
        ),
    ]


def _responses(results: Results) -> list[str]:
    levels = curves.beta_levels(results.cells)
    betas = {level.label: beta_label(level.beta, level.label) for level in levels}
    return [
        paragraph(sample_cards.sentence(results.samples)),
        page.table(sample_cards.shares_table(results.hacked_shares, levels, results.arms)),
        note(
            "Share of all held-out problems, kept or not, whose proxy reward is higher and whose true reward is lower "
            "at the last step than at the first: mean over seeds, each seed under it. Every response is one draw, so "
            "that this happens by chance too: the placebo's share says how often. No claim is judged by these."
        ),
        sample_cards.cards(results.samples, betas),
    ]


def _measures(results: Results) -> list[str]:
    cells, arms, claims = results.cells, results.arms, results.claims["claims"]
    more = {column.heading: column.name for column in shown_in(MORE)}
    return [
        _figure(
            "figure_3_goodhart_gap",
            "The paper's gap and the controlled gap over online steps, per beta",
            captions.gap_caption(cells, results.hacking, results.params, results.heldout["step"].nunique()),
        ),
        page.table(measure_tables.both_measures(cells, arms)),
        note(
            "AUGC: area under the positive gap, in gap × steps and in base sd × steps; mean over seeds, each seed "
            "under it, then a 95 % t interval taken on logarithms, which bounds the geometric mean (none where an AUGC "
            "is 0). AUGC counts positive gaps only, so noise alone makes it positive, and its excess over the placebo "
            "is too small; the signed area counts negative gaps too, and noise cancels. "
            "Controlled onset: 95 % bootstrap interval over the held-out problems under it. "
            + claim_tables.judged_by_sentence(claims)
        ),
        folded(
            "More of the controlled measure",
            page.table(measure_tables.more_of_the_controlled_measure(cells, arms)),
            note(
                f"{claim_tables.judging_columns(claims, more)} {measure_tables.notes(MORE)} "
                f"{measure_tables.common_kl_sentence(cells, results.hacking['common_kl'])}"
            ),
        ),
        page.heading("Table 1 of the paper, from these runs"),
        page.table(measure_tables.table_1(cells, results.arm)),
        note(
            f"{captions.trend_caption(results.hacking, len(results.betas), claims)} "
            f"Published rows: {printed.SOURCE}; threshold {tables.number(printed.HACKING_THRESHOLD)}."
        ),
    ]


def _equal_kl(results: Results) -> list[str]:
    record, cells, arms = results.equal_kl, results.cells, results.arms
    return [
        paragraph(equal_kl_tables.sentence(record, arms)),
        _figure(
            "equal_kl",
            "Change of proxy and true reward over the KL to the DPO checkpoint, per arm, and both at one KL per beta",
            "One line per run, in the order of its steps: where it turns back, the KL fell. Dashed: the KL that every "
            "run of the arm reaches; dots: where each first comes to it, between two evaluations on a straight line. "
            "Right: the means there, each with its interval. Colour is β.",
        ),
        page.table(equal_kl_tables.gains_table(record, cells, arms)),
        note(
            "Gains since step 0 in standard deviations of the base policy: mean over seeds, each seed under it, then "
            "the central 95 % of 2,000 bootstrap resamples of the seeds and of the held-out problems, which all runs "
            "share. Few seeds cover less than that says; one seed has the problems' part alone. The KL itself is "
            "taken as it was measured. No claim is judged by these."
        ),
        folded("How many runs reach which KL", page.table(equal_kl_tables.reach_table(record, cells, arms))),
    ]


def _conservatism(results: Results) -> list[str]:
    tokens = results.params.protocol.entropy_tokens
    return [
        paragraph(mechanism_tables.entropy_sentence(results.claims["claims"], results.betas, tokens)),
        _figure(
            "conservatism",
            "KL to the base and response entropy of each checkpoint over beta, and signed controlled AUGC over both",
            "Above: what each DPO checkpoint turned out to be, over the β asked for. Below: hacking over what it "
            "turned out to be. Dots are seeds, bars their means with 95 % t intervals; colour is β. The vertical axes "
            "above do not start at 0.",
        ),
        page.table(measure_tables.checkpoints(results.primary, tokens)),
        note(
            "KL(DPO ‖ base) and response entropy are of the checkpoint's own responses to held-out problems, drawn "
            "from its full distribution. Win rate: share of held-out problems on which the checkpoint's response has "
            "the higher proxy reward. Accuracy: validation pairs whose chosen response DPO's implicit reward prefers."
        ),
        page.heading("What goes with β, and what AUGC goes with"),
        page.table(mechanism_tables.link_table(results.mechanism, ("conservatism", "augc_by_covariate"))),
        note("ρ, null interval and p are explained under Mechanism."),
    ]


def _best_of_n(results: Results) -> list[str]:
    claims, chosen = results.claims["claims"], results.params.scale.best_of_n
    return [
        paragraph(best_of_n.sentence(claims)),
        _figure(
            "best_of_n",
            "Gain of proxy and true reward over the KL of best-of-n selection, per beta and selector",
            f"Best of n = 1, 2, 4, ... of {chosen.draws} responses to each of {chosen.prompts} held-out problems, over "
            "the KL of selection, ln n − (n−1)/n: gain since n = 1 in standard deviations of the base policy. Solid: "
            "proxy reward; dashed: true reward. Lines are means over seeds, bands their 95 % t interval; colour is β.",
        ),
        page.table(best_of_n.table(results.primary, results.best_of_n)),
        note(
            "Gap: area between the gain of the proxy and that of the true reward over the KL; in brackets, of every "
            "seed, the 95 % t interval over problems. Gains at the largest n. "
            "Chosen by the truth: what a selector without errors would gain, the upper bound. Means over all subsets "
            "of the draws."
        ),
    ]


def _mechanism(results: Results) -> list[str]:
    tokens = results.params.protocol.entropy_tokens
    return [
        paragraph(mechanism_tables.mechanism_sentence(results.mechanism)),
        page.table(mechanism_tables.link_table(results.mechanism, ("chain",))),
        _figure(
            "figure_4_entropy",
            "Entropy of each checkpoint and its loss online, per beta",
            f"Figure 4 of the paper: entropy of the next token over the {tokens} tokens of the problems (Eq. 11); "
            "below, over the responses. Left: every checkpoint before and after the online run, on an axis that spans "
            "at least a tenth of the level. Middle: the checkpoint's change against the lowest β of its seed. Right: "
            "positive means that the policy lost entropy online. Dots are seeds, bars their means with 95 % intervals.",
        ),
        _figure(
            "figure_6_representation",
            "Distance from the reward model's data and response diversity, per beta",
            "Figure 6 of the paper: cosine distance of responses from the mean of the reward model's training data "
            "(Eq. 12) and mean pairwise cosine distance, by the layer, members and prompts that the protocol names. "
            "Below, by all members: Mahalanobis distance, and the diversity of several responses to one prompt. A line "
            "joins a seed's checkpoint with its policy after the online run. The vertical axes do not start at 0.",
        ),
        folded(
            "Every probe in numbers",
            page.table(measure_tables.probes(results.primary)),
            note(measure_tables.probe_legend()),
        ),
        page.heading("Does the ensemble's disagreement tell wrong answers?"),
        _figure(
            "disagreement",
            "What the ensemble knows of right and wrong answers over online steps, per beta",
            f"{mechanism_tables.calibration_sentence(results.mechanism, results.arm)} Below, over the held-out "
            "problems at every evaluation: correlation of the proxy with the true reward, and the proxy's standard "
            "deviation, without which nothing is left to learn from. Means over seeds with their 95 % t intervals.",
        ),
        page.table(mechanism_tables.calibration_table(results.mechanism)),
    ]


def _power_law(results: Results) -> list[str]:
    forms = beta_star_tables.forms_table(results.beta_star)
    claim = claim_tables.about(results.claims["claims"], "beta_star")[0]
    return [
        _figure(
            "figure_5_power_law",
            "AUGC over beta with the fitted power law, by both measures",
            f"Figure 5 of the paper. {captions.power_law_caption(results.power_law, results.power_law_curve)}",
        ),
        page.table(beta_star_tables.power_law_table(results.power_law)),
        note(
            f"Published: {printed.SOURCE}; AUGC at β* (minimum over the grid) "
            f"{tables.number(printed.AUGC_AT_BETA_STAR)}."
        ),
        page.heading("β* by every definition"),
        page.table(beta_star_tables.beta_star_table(results.beta_star)),
        note(
            "In brackets the central 95 % over bootstrap resamples of the seeds, which cover less than they say at few "
            "seeds. Identified: the means over seeds and at least 95 % of the resamples give a beta, and these do not "
            "range over all observed betas. Def. 6.1 leaves its weight open; here AUGC and A weigh the same over the "
            f"observed betas. The last row is a first exceedance, not an optimum. {claim} is about Eq. 15 alone and "
            "needs six betas."
        ),
        paragraph(beta_star_tables.forms_refusals(results.beta_star)),
        page.table(forms),
    ]


def _appendix_f(results: Results) -> list[str]:
    answers = appendix_f.points(results)
    return [
        paragraph(f"What the paper asks of a benchmark. {appendix_f.sentence(answers)}"),
        page.table(appendix_f.table(answers)),
    ]


_SEEDS = {
    "per_seed": "A seed repeats reward models, DPO and online run; base and pairs are shared by all seeds.",
    "shared": "A seed repeats DPO and the online run; base, pairs and reward models are shared by all seeds.",
}


def _method(results: Results) -> list[str]:
    params, scale = results.params, results.params.scale
    metrics = {
        "beta_grid": results.beta_grid,
        "ensemble": results.ensemble,
        "base": results.base,
        "hacking": results.hacking,
        "power_law": results.power_law,
    }
    return [
        paragraph(
            f"Policy {scale.policy.name} ({scale.policy.source}), {len(params.ensemble_members)} reward models a seed "
            f"{scale.reward.name} ({scale.reward.source}) aggregated by {params.aggregation}, problems "
            f"{scale.tasks.name} ({scale.tasks.source}), root seed {params.root_seed}. Every beta has its own "
            f"checkpoint per seed; all arms of a checkpoint draw the same prompts. {_SEEDS[params.ensembles]}"
        ),
        _beta_grid(results),
        folded(
            "Where the spread comes from: seeds, problems, single answers",
            page.table(measure_tables.variance_table(results.variance, results.cells)),
            note(
                "Variance components of one held-out problem's change from step 0 to the end, in the reward's squared "
                "unit; the standard error is that of the mean over these seeds and problems."
            )
            if results.variance
            else paragraph("One seed has no spread to split."),
        ),
        folded(
            protocol_sentence(params).capitalize(),
            page.table(tables.settings_table(asdict(params.protocol), _as_named(params))),
        ),
        folded(f"Scale {params.scale_name}", page.table(tables.settings_table(asdict(params.scale)))),
        folded("Every metric", page.table(tables.metrics_table(metrics))),
    ]


def _as_named(params: Params) -> dict[str, str]:
    """What the changed switches are in the protocol of that name."""
    return {change.switch: f"changed; {params.protocol_name}: {spelled(change.named)}" for change in changes(params)}


def _beta_grid(results: Results) -> str:
    """The log-ratios, and the percentiles that give betas where there are any."""
    lines = f" vertical lines are the percentiles in use, taken in {results.beta_grid['precision']}."
    given = bool(results.params.beta_percentiles)
    return _figure(
        "beta_grid",
        f"Distribution of absolute log-ratios{' with the percentiles that give the betas' if given else ''}",
        "Absolute log-ratio of the chosen over the rejected response of each pair, in both precisions"
        f"{';' + lines if given else '.'} The highest hundredth is cut off.",
    )
