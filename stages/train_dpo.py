"""Train one DPO adapter on the frozen policy base (paper section 4, Eq. 1).

Reads: data/preferences/{train,val}.parquet, data/reference/dpo_logps.parquet, the policy base, the cell's beta.
Writes: models/dpo/<cell>/ (adapter, training.json).
"""

import argparse

from pessimism import layout, records, stage
from pessimism.cells import DpoCell, percentile_key
from pessimism.models.adapters import DEFAULT, save_adapter
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.offline.dpo import join_reference, train_dpo
from pessimism.offline.reference import REFERENCE_COLUMNS
from pessimism.params import load_params


def parse_cell() -> DpoCell:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beta-percentile", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    return DpoCell(arguments.beta_percentile, arguments.seed)


def main() -> None:
    cell = parse_cell()
    with records.run_record("train_dpo", cell.key):
        params = load_params()
        tokenizer = load_tokenizer(params, "policy")
        reference = records.read_table(layout.REFERENCE_LOGPS, REFERENCE_COLUMNS)
        train, validation = (
            join_reference(tokenizer, records.read_table(layout.preferences(split)), reference, params)
            for split in ("train", "val")
        )
        directory = layout.dpo_adapter(cell)
        model, record = train_dpo(
            params,
            cell,
            beta=records.read_json(layout.BETA_GRID)[percentile_key(cell.beta_percentile)],
            base=load_policy_base(params),
            tokenizer=tokenizer,
            train=train,
            validation=validation,
            directory=directory,
        )
        save_adapter(model, DEFAULT, directory)
        records.write_json(layout.training_record(directory), record)


if __name__ == "__main__":
    stage.run(main)
