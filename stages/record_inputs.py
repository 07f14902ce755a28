"""Record the code and the parameters that all cells of one stage share, for these to depend on one file.

Reads: what dvc.yaml lists for the stage <stage>_inputs. Writes: data/inputs/<stage>.json.
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.cells import StageOfCells, parse_stage_of_cells
from pessimism.experiment.inputs import shared_inputs
from pessimism.experiment.params import Params


@stage.main("record_inputs", parse_stage_of_cells)
def main(params: Params, cells: StageOfCells) -> None:
    records.write_json(layout.shared_inputs(cells.stage), shared_inputs(cells.stage))


if __name__ == "__main__":
    main()
