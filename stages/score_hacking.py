"""Score every online run for reward hacking (paper Def. 3.1 and 3.2, sections 5 and 7).

Reads: the trajectory of every online cell, the probes of every checkpoint, metrics/beta_grid.json.
Writes: metrics/hacking.json, plots/goodhart_gap.csv, plots/heldout_rewards.csv, plots/cells.csv.
"""

from pessimism import layout, records, stage
from pessimism.analysis import scores
from pessimism.params import load_params


def main() -> None:
    with records.run_record("score_hacking"):
        params = load_params()
        betas = scores.read_betas(params)
        trajectories = scores.read_trajectories(params)
        gaps = scores.gap_table(trajectories, betas)
        heldout = scores.heldout_table(trajectories, betas)
        cells = scores.cell_table(gaps, heldout, scores.read_probes(params), params.primary_arm)
        threshold = scores.primary_threshold(gaps, params.primary_arm)
        records.write_table(layout.GOODHART_GAP, gaps)
        records.write_table(layout.HELDOUT_REWARDS, heldout)
        records.write_table(layout.CELL_SCORES, cells)
        records.write_json(layout.HACKING, scores.hacking_metrics(cells, threshold, params.arms))


if __name__ == "__main__":
    stage.run(main)
