"""The resident base: one frozen model in memory, kept between runs."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from app.contracts.errors import fatal, usage
from app.contracts.specs import BaseRef
from workers.engine.recipes.templates import find_turn_end
from workers.engine.training import attention
from workers.engine.training.lora import AdaptedLinears, wrap_linears


@dataclass
class ResidentBase:
    """A frozen causal language model with its tokenizer; its linear layers are wrapped for adapters."""

    ref: BaseRef
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    stop_token_ids: tuple[int, ...]
    vocab_size: int
    linears: AdaptedLinears

    @property
    def head_weight(self) -> Tensor:
        """The frozen output matrix, [vocabulary, hidden]."""
        return cast("Tensor", _head(self.model).weight)

    def backbone(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Hidden states [1, T, hidden] before the head, without a cache; inputs are [1, T]."""
        body = cast("nn.Module", self.model.get_decoder())  # type: ignore[no-untyped-call]
        output = body(input_ids=input_ids, position_ids=position_ids, use_cache=False)
        return cast("Tensor", output.last_hidden_state)


def pick_device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it natively, else fp32 (override: TUNESMITH_ENGINE_DTYPE)."""
    forced = os.environ.get("TUNESMITH_ENGINE_DTYPE")
    if forced is not None:
        dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
        if forced not in dtypes:
            raise fatal("engine_misconfigured", f"TUNESMITH_ENGINE_DTYPE is '{forced}'; use bfloat16 or float32.")
        return dtypes[forced]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 torch has no public name for it
    return torch.bfloat16 if has_bf16 else torch.float32


def load_base(ref: BaseRef, device: torch.device) -> ResidentBase:
    """Load from the local folder `ref.path`: safetensors only, no remote code, no network.

    Usage failure `invalid_base` when the folder holds no base this engine can load.
    """
    folder = Path(ref.path)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise usage("invalid_base", f"The folder of base '{ref.id}' lacks config.json or safetensors weights.")
    attention.register()
    dtype = pick_dtype(device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention.NAME,
        )
    except (OSError, ValueError) as error:
        raise usage("invalid_base", f"Base '{ref.id}' cannot be loaded: {error}") from error
    refuse_unsupported(model, ref)
    model.requires_grad_(False)
    model.eval()
    model.to(device)
    return ResidentBase(
        ref=ref,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        stop_token_ids=_stop_token_ids(model, tokenizer),
        vocab_size=model.get_input_embeddings().weight.shape[0],
        linears=wrap_linears(model, _head(model)),
    )


def refuse_unsupported(model: PreTrainedModel, ref: BaseRef) -> None:
    """Usage failure `unsupported_base` for what our packed loss and decoding leave out: never train it wrongly."""
    config: Any = model.config
    reasons = []
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "logits_scaling", "logit_scale"):
        factor = getattr(config, name, None)
        if factor is not None and factor != 1:
            reasons.append(f"{name} of {factor}")
    window = getattr(config, "sliding_window", None)
    layer_types = getattr(config, "layer_types", None)
    slides = layer_types is None or "sliding_attention" in layer_types
    if slides and window is not None and window < ref.context_length:
        reasons.append(f"a sliding window of {window} tokens in a context of {ref.context_length}")
    if getattr(_head(model), "bias", None) is not None:
        reasons.append("a bias in the output layer")
    if reasons:
        raise usage(
            "unsupported_base",
            f"Base '{ref.id}' has {' and '.join(reasons)}, which this engine does not compute. Choose another base.",
            param="model",
        )


def _head(model: PreTrainedModel) -> nn.Module:
    return cast("nn.Module", model.get_output_embeddings())  # type: ignore[no-untyped-call]


def _stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that ends an answer: generation config, tokenizer, and what the template ends a turn with."""
    found: set[int] = set()
    for value in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(value)
    turn_end = find_turn_end(tokenizer)
    if turn_end is not None:
        found.add(turn_end)
    return tuple(sorted(found))


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once."""
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return max(1, min(len(cores), math.ceil(_cgroup_cpus())))


def _cgroup_cpus() -> float:
    """CPU quota of a container in cores; the machine's cores where there is none."""
    machine = float(os.cpu_count() or 1)
    quota_file = Path("/sys/fs/cgroup/cpu.max")
    if not quota_file.is_file():
        return machine
    quota, _, period = quota_file.read_text().partition(" ")
    return machine if quota == "max" else int(quota) / int(period)


def set_up_torch() -> None:
    """Threads for this process: TUNESMITH_ENGINE_THREADS, else one per physical core."""
    wanted = os.environ.get("TUNESMITH_ENGINE_THREADS")
    torch.set_num_threads(physical_cores() if wanted is None else int(wanted))
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def memory_bytes(device: torch.device) -> int:
    """All memory of the device; of the machine for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
