"""Adapt one offline checkpoint online in one arm (paper sections 3 and 4.4, Eq. 8-10).

Reads: the DPO adapter, the base, its seed's reward ensemble, the problems, the checkpoint's strength.
Writes: data/online/<cell>/ (trajectory, held-out samples, rollouts), models/online/<cell>/ (the adapted policy).
"""

from dataclasses import asdict

from pessimism.checks import stage
from pessimism.checks.launch import check_processes
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, parse_online_cell
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.models import unfinished
from pessimism.models.adapters import attach, save_adapter, trainable_parameters
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.online.loop import OnlineRun, load_training_tasks
from pessimism.online.objective import find_objective
from pessimism.online.update import POLICY, REFERENCE
from pessimism.reward.ensemble import RewardEnsemble


def write(run: OnlineRun) -> None:
    """Write what the finished run measured, and the adapted policy."""
    import pandas as pd

    cell = run.cell
    records.write_table(layout.trajectory(cell), pd.DataFrame(run.rows))
    records.write_table(layout.heldout_samples(cell), pd.concat(run.samples))
    records.write_jsonl(layout.rollouts(cell), run.rollouts)
    stopped = {"frozen_from": run.frozen_from} if run.params.arm(cell.arm).has_limit else {}
    records.write_json(layout.online_hyperparameters(cell), asdict(run.hyperparameters) | stopped)
    save_adapter(run.model, POLICY, layout.online_adapter(cell))


@stage.main("adapt_online", parse_online_cell)
def main(params: Params, cell: OnlineCell) -> None:
    check_processes(params)
    checkpoint = layout.dpo_adapter(cell.dpo)
    model = attach(load_policy_base(params), {REFERENCE: checkpoint, POLICY: checkpoint}, trainable=POLICY)
    hyperparameters = online_hyperparameters(
        params.scale,
        params.arm(cell.arm),
        parameters=records.read_json(layout.base_record("policy"))["parameters"],
        trainable=sum(parameter.numel() for parameter in trainable_parameters(model)),
        test_problems=len(records.read_table(layout.tasks("test"))),
    )
    with unfinished.kept_work("adapt_online", cell) as kept:
        run = OnlineRun(
            params=params,
            cell=cell,
            beta=records.get(records.read_json(layout.BETA_GRID), cell.label),
            model=model,
            tokenizer=load_tokenizer(params, "policy"),
            ensemble=RewardEnsemble.load(params, cell.seed),
            training_tasks=load_training_tasks(params),
            heldout_tasks=records.read_table(layout.tasks("heldout")),
            hyperparameters=hyperparameters,
            objective=find_objective(params.online.objective),
            live_rows=layout.live_rows(cell),
            kept=kept,
        )
        run.train()
        if processes.is_main():
            write(run)


if __name__ == "__main__":
    main()
