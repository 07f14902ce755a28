"""The base models of the policy and of the reward ensemble.

Paper: section 4 (models). Reads: the sources that the scale names.
Writes: models/base/policy.json and reward.json (revision or content hash, size, tokenizer) and, where a source is
embedded, the weights of the base that is trained here.
"""

from pessimism.checks import stage
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.models.embedded import train_base
from pessimism.models.resolving import LOADERS, record_base


def train_embedded(params: Params) -> None:
    """Train the embedded base and save it with its tokenizer, if a role uses it."""
    if "embedded" not in {params.scale.model(role).source for role in LOADERS}:
        return
    assert params.scale.embedded is not None and params.scale.annotator is not None
    model, tokenizer = train_base(params.scale.embedded, params.root_seed, params.scale.annotator)
    model.save_pretrained(layout.BASE_WEIGHTS)
    tokenizer.save_pretrained(layout.BASE_WEIGHTS)


@stage.main("prepare_base")
def main(params: Params) -> None:
    train_embedded(params)
    for role in LOADERS:
        record_base(params, role)


if __name__ == "__main__":
    main()
