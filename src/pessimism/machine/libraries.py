"""What libraries print and send, with how many threads and which instructions they compute, and what is not loaded.

Imported for its effect, first of all, by what starts a process of the experiment: a stage, a command, a benchmark, a
test. Libraries read these settings when they are imported. Their errors still show, and what the user has set of the
environment stays, but for the threads. A process of somebody else's, which imports the measures or the integrations, is
left as it is.
"""

import logging
import os
import platform
import sys
import warnings

THREADS = 1
"""Of a process that computes on CPUs, whatever the machine: with another number, sums are added up in another order and
rounded otherwise. Cores are used by processes side by side."""
for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_library}_NUM_THREADS"] = str(THREADS)

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""What has torch, MKL, numpy and scipy use AVX2 on x86 CPUs. Where there is AVX-512 they would take that, which rounds
otherwise: a training takes another course, and a run has other numbers from one CPU to the next. oneDNN, whose products
are those of bfloat16, may use what there is: without AVX-512 BF16 they take ten times as long."""
if platform.machine() in ("x86_64", "AMD64"):
    for _variable, _value in AVX2.items():
        os.environ.setdefault(_variable, _value)

# TRL reports every trainer it builds to the hub; nothing here may depend on a network.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Lists newly made score heads as missing weights; pessimism.models.loading checks what is missing by itself.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Bars for reading weights from disk; stages show their own bars.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# On CPUs with AVX512-BF16, bitsandbytes asks for an optional kernel package that is never needed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# PEFT asks transformers for a property by its old name.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


class _HelpersWithoutBitsandbytes:
    """Tells PEFT's helpers that there is no bitsandbytes, which they import for one function that is not used here.

    It takes as long to load as all of PEFT. Where a model is quantised, transformers imports it.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        helpers = sys.modules.get("peft.helpers")
        if fullname == "bitsandbytes" and getattr(getattr(helpers, "__spec__", None), "_initializing", False):
            raise ModuleNotFoundError(f"{fullname} is not loaded before something is quantised")


sys.meta_path.insert(0, _HelpersWithoutBitsandbytes())
