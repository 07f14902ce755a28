"""Probe one checkpoint before and after its online run (paper section 5, Eq. 11, 12).

Reads: the DPO adapter and the adapter of the primary arm's online run, its seed's reward members, problems, pairs.
Writes: data/probes/<cell>.json.
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell, parse_dpo_cell
from pessimism.experiment.params import Params
from pessimism.models.adapters import attach
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.probes.parts.checkpoint import probe_checkpoint
from pessimism.probes.parts.declaration import DPO, ONLINE
from pessimism.probes.parts.readings import probe_set
from pessimism.reward.ensemble import RewardEnsemble


@stage.main("probe_policy", parse_dpo_cell)
def main(params: Params, cell: DpoCell) -> None:
    online_cell = OnlineCell(cell.label, cell.seed, params.primary_arm)
    adapters = {DPO: layout.dpo_adapter(cell), ONLINE: layout.online_adapter(online_cell)}
    ensemble = RewardEnsemble.load_raw(params, cell.seed)
    tasks = records.read_table(layout.tasks("test"))
    heldout = records.read_table(layout.tasks("heldout"))
    pairs = records.read_table(layout.preferences("train"))
    record = probe_checkpoint(
        model=attach(load_policy_base(params), adapters, trainable=None),
        tokenizer=load_tokenizer(params, "policy"),
        ensemble=ensemble,
        probes=probe_set(params, tasks, heldout, pairs, ensemble),
        params=params,
        seed=cell.seed,
    )
    records.write_json(layout.probe(cell), record)


if __name__ == "__main__":
    main()
