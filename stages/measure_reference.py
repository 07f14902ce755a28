"""Measure every preference pair under the frozen policy base, once for all betas and seeds (paper section 4, Eq. 1, 6).

Reads: data/preferences/{train,val}.parquet, the policy base.
Writes: data/reference/dpo_logps.parquet (reference term of DPO), data/reference/grid_logps.parquet (beta grid).
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.models import unfinished
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.models.unfinished import KeptResults
from pessimism.offline.reference import dpo_reference, grid_reference


@stage.main("measure_reference")
def main(params: Params) -> None:
    splits = {split: records.read_table(layout.preferences(split)) for split in ("train", "val")}
    model, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
    with unfinished.kept_work("measure_reference") as kept:
        results = KeptResults(kept)
        records.write_table(layout.REFERENCE_LOGPS, dpo_reference(model, tokenizer, splits, params, results))
        records.write_table(layout.GRID_LOGPS, grid_reference(model, tokenizer, splits["train"], params, results))


if __name__ == "__main__":
    main()
