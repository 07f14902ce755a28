"""Train one adapter on the frozen policy base by the offline objective (paper section 4, Eq. 1).

Reads: data/reference/dpo_logps.parquet (pairs and their reference), the policy base, the cell's strength.
Writes: models/dpo/<cell>/ (adapter, training.json).
"""

from pessimism.checks import stage
from pessimism.checks.launch import check_processes
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, parse_dpo_cell
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.models import unfinished
from pessimism.models.adapters import DEFAULT, save_adapter
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.offline.reference import REFERENCE_COLUMNS
from pessimism.offline.training import ReferencedPairs, train_offline


@stage.main("train_dpo", parse_dpo_cell)
def main(params: Params, cell: DpoCell) -> None:
    check_processes(params)
    reference = records.read_table(layout.REFERENCE_LOGPS, REFERENCE_COLUMNS)
    directory = layout.dpo_adapter(cell)
    with unfinished.kept_work("train_dpo", cell) as kept:
        model, record = train_offline(
            params,
            cell,
            strength=records.get(records.read_json(layout.BETA_GRID), cell.label),
            base=load_policy_base(params),
            tokenizer=load_tokenizer(params, "policy"),
            train=ReferencedPairs.of(reference, "train"),
            validation=ReferencedPairs.of(reference, "val"),
            directory=kept.directory,
        )
        if processes.is_main():
            save_adapter(model, DEFAULT, directory)
            records.write_json(layout.training_record(directory), record)


if __name__ == "__main__":
    main()
