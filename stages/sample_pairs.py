"""The preference pairs of the experiment: the source's and, where the scale asks for them, pairs sampled on the task.

Reads: data/source_preferences/, the policy base, data/set_aside/pairs.parquet and data/tasks/shots.parquet if there
are any.
Writes: data/preferences/: the source's pairs as they are, or followed by the sampled ones of their split and with
sampled.json, which says what the annotator is and how it chose.
"""

import shutil

from pessimism.checks import stage
from pessimism.data.splits import SPLITS
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params


def add_sampled(params: Params) -> None:
    """Write the source's pairs with those that the base is sampled on."""
    import pandas as pd

    from pessimism.models.loading import load_policy_base, load_tokenizer
    from pessimism.offline.sampled_pairs import draw_pairs

    problems = records.read_table(layout.set_aside("pairs"))
    sampled = draw_pairs(load_policy_base(params), load_tokenizer(params, "policy"), problems, params)
    for split in SPLITS:
        pairs = [records.read_table(layout.source_preferences(split)), pd.DataFrame(sampled.rows[split])]
        records.write_table(layout.preferences(split), pd.concat(pairs, ignore_index=True))
    records.write_json(layout.SAMPLED_PAIRS_RECORD, sampled.record)


@stage.main("sample_pairs")
def main(params: Params) -> None:
    if params.scale.tasks.pairs is not None:
        add_sampled(params)
        return
    layout.PREFERENCES.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        shutil.copyfile(layout.source_preferences(split), layout.preferences(split))


if __name__ == "__main__":
    main()
