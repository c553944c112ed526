"""From a `GenerateSpec` to a `Prompt` in tokens, with every reason to refuse it found before anything runs."""

from app.contracts.errors import usage
from app.contracts.specs import GenerateSpec
from workers.engine.base_model import ResidentBase
from workers.engine.inference.prompt_scores import prompt_text
from workers.engine.inference.prompts import Echo, Prompt, token_limit
from workers.engine.inference.sampling import check_logit_bias
from workers.engine.inference.token_text import TokenText
from workers.engine.recipes.templates import RowRefusedError, render_completion_prompt, render_prompt
from workers.engine.training.lora import AdapterWeights


def require_writer(resident: ResidentBase, adapter: AdapterWeights | None) -> None:
    """Usage failure `unsupported_task` for a base or adapter that labels texts instead of continuing them."""
    if resident.family != "decoder":
        family = resident.family.replace("_", "-")
        raise usage(
            "unsupported_task",
            f"The base '{resident.ref.id}' is an {family}: it holds no conversations. "
            "Tune it for a task of its own and ask the tuned model.",
            param="model",
        )
    if adapter is not None and adapter.vectors:
        raise usage("unsupported_task", "This model labels texts and writes none; ask it to predict.", param="model")


def encode_request(resident: ResidentBase, spec: GenerateSpec, *, key: int) -> Prompt:
    """Render and check one request. Raises `usage` naming the parameter at fault."""
    if (spec.messages is None) == (spec.prompt is None):
        raise usage("invalid_request", "Give either messages or prompt, not both and not neither.", param="prompt")
    if "" in spec.sampling.stop:
        raise usage("invalid_stop", "A stop string is empty; give at least one character.", param="stop")
    check_logit_bias(spec.sampling, resident.vocab_size)
    ids, prefix = _chat_tokens(resident, spec) if spec.messages is not None else _raw_tokens(resident, spec)
    echo = Echo(prompt_text(ids, TokenText(resident.tokenizer), hidden=prefix), prefix) if spec.echo else None
    prompt = Prompt(key=key, token_ids=ids, sampling=spec.sampling, n=spec.n, echo=echo)
    token_limit(prompt, resident)
    return prompt


def _chat_tokens(resident: ResidentBase, spec: GenerateSpec) -> tuple[tuple[int, ...], int]:
    try:
        return tuple(render_prompt(resident.tokenizer, spec.messages or (), spec.tools)), 0
    except KeyError as missing:
        raise usage("invalid_messages", f"A message lacks the key {missing}.", param="messages") from missing
    except RowRefusedError as refusal:
        raise usage("invalid_messages", f"The messages cannot be rendered: {refusal}.", param="messages") from refusal


def _raw_tokens(resident: ResidentBase, spec: GenerateSpec) -> tuple[tuple[int, ...], int]:
    """Tokens and how many of them (a BOS) stand before the text the client sent."""
    if isinstance(spec.prompt, str):
        plain = resident.tokenizer(spec.prompt, add_special_tokens=False)["input_ids"]
        ids = render_completion_prompt(resident.tokenizer, spec.prompt)
        return tuple(ids), len(ids) - len(plain)
    ids = list(spec.prompt or ())
    outside = [token for token in ids if not 0 <= token < resident.vocab_size]
    if outside:
        raise usage(
            "invalid_prompt",
            f"The prompt holds token {outside[0]}, but this base has the tokens 0 to {resident.vocab_size - 1}.",
            param="prompt",
        )
    return tuple(ids), 0
