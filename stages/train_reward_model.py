"""Train one reward model on its bootstrap sample of the preference pairs (paper section 4, Eq. 5).

Reads: data/preferences/train.parquet, the reward base.
Writes: models/reward/s<seed>/member-<k>/ (adapter with score head, training.json).
"""

from pessimism.checks import stage
from pessimism.checks.launch import check_processes
from pessimism.experiment import layout, records
from pessimism.experiment.cells import RewardCell, parse_reward_cell
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.models import unfinished
from pessimism.models.adapters import DEFAULT, save_adapter
from pessimism.models.loading import load_reward_base, load_tokenizer
from pessimism.reward.bradley_terry import train_member


@stage.main("train_reward_model", parse_reward_cell)
def main(params: Params, cell: RewardCell) -> None:
    check_processes(params)
    directory = layout.reward_member(cell)
    with unfinished.kept_work("train_reward_model", cell) as kept:
        model, record = train_member(
            params,
            cell,
            base=load_reward_base(params),
            tokenizer=load_tokenizer(params, "reward"),
            pairs=records.read_table(layout.preferences("train")),
            directory=kept.directory,
        )
        if processes.is_main():
            save_adapter(model, DEFAULT, directory)
            records.write_json(layout.training_record(directory), record)


if __name__ == "__main__":
    main()
