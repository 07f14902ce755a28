"""Is the policy its reference before it is trained?"""

from __future__ import annotations

from pessimism.online.loop import HELDOUT
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument


def check_kl_at_start(instrument: Instrument) -> Finding:
    """KL of the first held-out evaluation, whose two passes differ in nothing but which copy of one adapter is active.

    Anything above 0 is dropout or rounding, which kappa (Eq. 10) would amplify. k1 and k3 are both looked at: k3 alone
    vanishes where log-probs differ in their last digit, k1 alone might cancel.
    """
    row = next(row for row in instrument.placebo.rows if row["prompt_set"] == HELDOUT and row["step"] == 0)
    return Finding(
        figure=f"k1 {row['kl_k1']:.3g}, k3 {row['kl_k3']:.3g} nats over {row['prompts']} responses",
        criterion="both exactly 0",
        passed=row["kl_k1"] == 0 and row["kl_k3"] == 0,
    )
