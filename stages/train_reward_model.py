"""Train one reward model on its bootstrap sample of the preference pairs (paper section 4, Eq. 5).

Reads: data/preferences/train.parquet, the reward base.
Writes: models/reward/member-<k>/ (adapter with score head, training.json).
"""

import argparse

from pessimism.checks import startup
from pessimism.checks.launch import check_processes
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.machine import processes, stage
from pessimism.models.adapters import DEFAULT, save_adapter
from pessimism.models.loading import load_reward_base, load_tokenizer
from pessimism.reward.bradley_terry import train_member


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", type=int, required=True)
    member = parser.parse_args().member
    with records.run_record("train_reward_model", str(member)):
        startup.check_stage("train_reward_model")
        params = load_params()
        check_processes(params)
        directory = layout.reward_member(member)
        model, record = train_member(
            params,
            member,
            base=load_reward_base(params),
            tokenizer=load_tokenizer(params, "reward"),
            pairs=records.read_table(layout.preferences("train")),
            directory=directory,
        )
        if processes.is_main():
            save_adapter(model, DEFAULT, directory)
            records.write_json(layout.training_record(directory), record)


if __name__ == "__main__":
    stage.run(main)
