"""Draw many responses of one offline checkpoint to held-out problems, for best-of-n selection (ours).

Reads: the DPO adapter, its seed's reward ensemble, the held-out problems.
Writes: data/best_of_n/<cell>.parquet (one row per problem and draw).
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, parse_dpo_cell
from pessimism.experiment.params import Params
from pessimism.models.adapters import DEFAULT, attach
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.best_of_n import draw_responses, draw_seeds
from pessimism.reward.ensemble import RewardEnsemble


@stage.main("select_best_of_n", parse_dpo_cell)
def main(params: Params, cell: DpoCell) -> None:
    problems = records.read_table(layout.tasks("heldout")).head(params.scale.best_of_n.prompts)
    draws = draw_responses(
        model=attach(load_policy_base(params), {DEFAULT: layout.dpo_adapter(cell)}, trainable=None),
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=RewardEnsemble.load(params, cell.seed),
        problems=problems,
        params=params,
        seeds=draw_seeds(params, cell, len(problems)),
    )
    records.write_table(layout.best_of_n_draws(cell), draws)


if __name__ == "__main__":
    main()
