"""The base models of the policy and of the reward ensemble.

Paper: section 4 (models). Reads: the sources that the scale names, data/set_aside/warm_start.parquet if there is one.
Writes: models/base/policy.json and reward.json (revision or content hash, size, tokenizer); where a source is embedded,
the weights of the base that is trained here; where the scale asks for a warm start of the policy, the weights after it.
"""

from pessimism.checks import stage
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.models.embedded import train_base
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.models.resolving import LOADERS, record_base


def train_embedded(params: Params) -> None:
    """Train the embedded base and save it with its tokenizer, if a role uses it."""
    if "embedded" not in {params.scale.model(role).source for role in LOADERS}:
        return
    assert params.scale.embedded is not None and params.scale.annotator is not None
    model, tokenizer = train_base(params.scale.embedded, params.root_seed, params.scale.annotator)
    model.save_pretrained(layout.BASE_WEIGHTS)
    tokenizer.save_pretrained(layout.BASE_WEIGHTS)


def warm_start(params: Params) -> None:
    """Train the policy's base on solved problems of its task, if the scale asks for it."""
    if params.scale.warm_start is None:
        return
    from pessimism.models.warm_start import write_warm_start

    write_warm_start(params, load_policy_base(params), load_tokenizer(params, "policy"))


@stage.main("prepare_base")
def main(params: Params) -> None:
    layout.WARM_START_RECORD.unlink(missing_ok=True)  # of an earlier run of this script: the sources come first
    train_embedded(params)
    for role in LOADERS:
        record_base(params, role)
    warm_start(params)


if __name__ == "__main__":
    main()
