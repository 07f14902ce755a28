"""Every check, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable

from pessimism.selfcheck.answers import check_answers
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.generation import check_kept_mass
from pessimism.selfcheck.hacking import check_placebo, check_planted_hack
from pessimism.selfcheck.instrument import Instrument
from pessimism.selfcheck.kl import check_kl_at_start
from pessimism.selfcheck.logprobs import check_response_logps
from pessimism.selfcheck.rewards import check_saved_member, check_score_invariance

Check = Callable[[Instrument], Finding]

CHECKS: dict[str, Check] = {
    "KL at step 0": check_kl_at_start,
    "score invariance": check_score_invariance,
    "saved members": check_saved_member,
    "response logps": check_response_logps,
    "kept mass": check_kept_mass,
    "answer extractor": check_answers,
    "placebo gap": check_placebo,
    "planted hack": check_planted_hack,
}
"""The planted hack trains the policy, so it comes last."""
