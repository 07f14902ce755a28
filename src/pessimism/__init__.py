"""Conservatism and reward hacking, from offline preference optimisation to online adaptation.

This is the one place that decides what the Hugging Face libraries print and send. It runs before any of them is
imported, because they read these settings at import. Their errors still show, and an environment variable that the
user has set stays.
"""

import logging
import os
import warnings

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
