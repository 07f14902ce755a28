"""Preference pairs and verifiable problems, split by prompt.

Paper: section 4 (data). Reads: the sources that the scale names.
Writes: data/preferences/; data/tasks/ with the hashes of the task's code, on which every stage that judges answers thus
depends; and data/sources.json: where every row came from, content hashes, what was dropped and why, and what the pairs
cover.
"""

from pessimism.checks import stage
from pessimism.data.preferences import load_preferences
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.experiment.sections import section
from pessimism.tasks.parts.problems import code_record, load_problems


@stage.main("prepare_data")
def main(params: Params) -> None:
    import pandas as pd

    with section(params, "preferences"):
        pairs = load_preferences(params.scale.preferences, params.root_seed, params.scale.annotator)
    with section(params, "tasks"):
        problems = load_problems(params.scale.tasks, params.root_seed)
    for split, rows in pairs.rows.items():
        records.write_table(layout.preferences(split), pd.DataFrame(rows))
    for split, rows in problems.rows.items():
        records.write_table(layout.tasks(split), pd.DataFrame(rows))
    records.write_json(layout.TASK_CODE, code_record(params.scale.tasks.kind))
    records.write_json(layout.DATA_RECORD, {"preferences": pairs.record, "tasks": problems.record})


if __name__ == "__main__":
    main()
