"""Preference pairs and verifiable problems, split by prompt.

Paper: section 4 (data). Reads: the sources that the scale names.
Writes: data/source_preferences/; data/tasks/ with the hashes of the task's code, on which every stage that judges
answers thus depends; data/set_aside/, the same of the train problems that are used before the online phase, where the
scale asks for any; and data/sources.json: where every row came from, content hashes, what was dropped and why, and what
the pairs cover.
"""

from pessimism.checks import stage
from pessimism.data.preferences import load_preferences
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.experiment.sections import section
from pessimism.tasks.parts.problems import SPLITS, code_record, load_problems


@stage.main("prepare_data")
def main(params: Params) -> None:
    import pandas as pd

    with section(params, "preferences"):
        pairs = load_preferences(params.scale.preferences, params.root_seed, params.scale.annotator)
    with section(params, "tasks"):
        problems = load_problems(params.scale.tasks, params.root_seed)
    for split, rows in pairs.rows.items():
        records.write_table(layout.source_preferences(split), pd.DataFrame(rows))
    for split in SPLITS:
        records.write_table(layout.tasks(split), pd.DataFrame(problems.rows[split]))
    code, set_aside = code_record(params.scale.tasks.kind), params.scale.tasks.set_aside
    for purpose in set_aside:
        records.write_table(layout.set_aside(purpose), pd.DataFrame(problems.rows[purpose]))
    records.write_json(layout.SET_ASIDE_RECORD, {"problems": set_aside, "code": code if set_aside else None})
    records.write_json(layout.TASK_CODE, code)
    records.write_json(layout.DATA_RECORD, {"preferences": pairs.record, "tasks": problems.record})


if __name__ == "__main__":
    main()
