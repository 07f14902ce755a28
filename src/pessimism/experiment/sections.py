"""Which part of the scale file an error is about: said once, where a source is used, and not by what uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pessimism.errors import HubError, PessimismError
from pessimism.experiment import layout
from pessimism.experiment.params import Params

LOCAL_COPIES = {
    "policy": "directory of a Hugging Face model",
    "reward": "directory of a Hugging Face model",
    "preferences": ".jsonl file",
    "tasks": "directory of the train and the test .jsonl file",
}


@contextmanager
def section(params: Params, name: str) -> Iterator[None]:
    """Have errors raised within begin with the scale file and its section ``name``, unless they do already.

    One of the hub also ends with what to run to do without a hub.
    """
    file = layout.scale_file(params.scale_name)
    try:
        yield
    except PessimismError as error:
        if not str(error).startswith(f"{file}: {name}"):
            ending = _local_copy(f"{file}:{name}", name) if isinstance(error, HubError) else ""
            error.args = (f"{file}: {name}: {error}{ending}",)
        raise


def _local_copy(key: str, name: str) -> str:
    flags = f"-S '{key}.source=path' -S '{key}.name=<{LOCAL_COPIES[name]}>'"
    return f", or use a local copy by `dvc exp run {flags}`"
