"""The one place where a conversation becomes tokens: for training, evaluation and serving."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jinja2
import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from app.contracts.rows import ChatMessage, ChatRow

Message = ChatMessage | Mapping[str, Any]
_PROBE = "qzq"  # an answer that no template contains
_ROLES = {"developer": "system", "function": "tool"}
_TEMPLATE_ERRORS = (jinja2.TemplateError, TypeError, KeyError, ValueError)


class RowRefusedError(Exception):
    """A row that cannot be trained on; the message says why, in words for the user."""


@dataclass(frozen=True)
class EncodedRow:
    """Tokens of one row and which of them are learned; `is_supervised[0]` is always False."""

    line: int
    input_ids: npt.NDArray[np.int32]
    is_supervised: npt.NDArray[np.bool_]
    is_truncated: bool = False

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    @property
    def supervised_tokens(self) -> int:
        return int(self.is_supervised.sum())


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Tokens up to where the assistant's next answer starts. `RowRefusedError` when the template cannot."""
    plain = to_template_messages(messages)
    _refuse_control_tokens(tokenizer, plain)
    prompt = _render(tokenizer, plain, tools, add_generation_prompt=True)
    return _tokenize(tokenizer, prompt + _preamble(tokenizer, plain, tools, prompt))


def render_completion_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokens of a raw prompt without a chat template, with the tokenizer's own BOS if it writes one."""
    ids = _tokenize(tokenizer, prompt)
    bos = tokenizer.bos_token_id
    probe = tokenizer("a", add_special_tokens=True)["input_ids"]
    writes_bos = bos is not None and probe[0] == bos
    if writes_bos and ids[:1] != [bos]:
        ids = [bos, *ids]
    return ids


def to_template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: no empty keys, arguments as objects, text content."""
    result = []
    for message in messages:
        plain = message.model_dump(exclude_none=True) if isinstance(message, ChatMessage) else dict(message)
        plain.pop("weight", None)
        plain["role"] = _ROLES.get(plain["role"], plain["role"])
        plain["content"] = _content_text(plain.get("content"))
        if plain.get("tool_calls"):
            plain["tool_calls"] = [_plain_tool_call(call) for call in plain["tool_calls"]]
        else:
            plain.pop("tool_calls", None)
        result.append(plain)
    return result


def encode_row(tokenizer: PreTrainedTokenizerBase, row: ChatRow, stop_token_ids: Sequence[int]) -> EncodedRow:
    """Tokens and loss mask: assistant answers with their stop token, weight 0 turns left out.

    Tokens after the last learned one are cut off: nothing is learned from them.
    Raises `RowRefusedError` when the row cannot be rendered, or the mask would not be exactly the answers.
    """
    if row.is_completion:
        return _encode_completion(tokenizer, row)
    messages = to_template_messages(row.messages)
    _refuse_control_tokens(tokenizer, messages)
    text = _render(tokenizer, messages, row.tools, add_generation_prompt=False)
    _refuse_ignored_tools(tokenizer, messages, row, text)
    starts: list[tuple[int, int]] = []  # (message index, character where its answer starts)
    for index, message in enumerate(row.messages):
        if message.role == "assistant" and message.weight != 0:
            starts.append((index, _answer_start(tokenizer, messages, row, text, index)))
    if not starts:
        raise RowRefusedError("no assistant message to learn from")
    ids, offsets = _tokenize_at(tokenizer, text, [start for _, start in starts])
    mask = np.zeros(len(ids), dtype=np.bool_)
    for index, start in starts:
        first = int(np.searchsorted(offsets, start))
        last = _turn_end(ids, first, stop_token_ids)
        _verify_answer(tokenizer, ids[first : last + 1], row.messages[index], index)
        mask[first : last + 1] = True
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        raise RowRefusedError("the chat template writes the BOS token twice")
    return _trimmed(row.line, ids, mask)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The exact text of tokens, control tokens included."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return cast("str", text)


def find_turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The control token with which the chat template ends an assistant turn; None if there is none."""
    if not tokenizer.chat_template:
        return None
    question = {"role": "user", "content": "a"}
    try:
        text = _render(
            tokenizer, [question, {"role": "assistant", "content": _PROBE}], None, add_generation_prompt=False
        )
    except RowRefusedError:
        return None
    after = _tokenize(tokenizer, text[text.rindex(_PROBE) + len(_PROBE) :]) if _PROBE in text else []
    return after[0] if after and after[0] in tokenizer.all_special_ids else None


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    *,
    add_generation_prompt: bool,
) -> str:
    if not tokenizer.chat_template:
        raise RowRefusedError("this base has no chat template; use prompt/completion rows or a chat base")
    try:
        text = tokenizer.apply_chat_template(
            cast("list[Any]", messages),
            tools=[dict(tool) for tool in tools] if tools else None,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
        )
    except _TEMPLATE_ERRORS as error:
        raise RowRefusedError(f"the base's chat template refuses this conversation: {error}") from error
    return cast("str", text)


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Template texts carry their own control tokens: the tokenizer must add none."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _tokenize_at(
    tokenizer: PreTrainedTokenizerBase, text: str, boundaries: Sequence[int]
) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Token ids and start characters, with a token border at each boundary.

    One pass where the tokens before each border are those of the text before it; else piece by piece, so
    that the tokens before an answer are those a server sees when it is asked for that answer. (Where a
    token does not cross the border they may differ too: white space is split by what follows it.)
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    if all(_has_border(tokenizer, text, encoded["input_ids"], spans, boundary) for boundary in boundaries):
        return encoded["input_ids"], spans[:, 0]
    ids: list[int] = []
    starts: list[npt.NDArray[np.int64]] = []
    edges = [0, *boundaries, len(text)]
    for left, right in itertools.pairwise(edges):
        piece = tokenizer(text[left:right], add_special_tokens=False, return_offsets_mapping=True)
        ids.extend(piece["input_ids"])
        starts.append(np.asarray(piece["offset_mapping"], dtype=np.int64).reshape(-1, 2)[:, 0] + left)
    return ids, np.concatenate(starts)


def _has_border(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: Sequence[int],
    spans: npt.NDArray[np.int64],
    boundary: int,
) -> bool:
    """Whether a token ends at `boundary` and the tokens up to there are those of `text[:boundary]`.

    Tokens before a control token do not depend on what follows it: only the end, from the last one on, is compared.
    """
    end = int((spans[:, 0] < boundary).sum())
    if end and spans[end - 1, 1] > boundary:
        return False
    control = set(tokenizer.all_special_ids)
    first = next((place for place in reversed(range(end)) if ids[place] in control), 0)
    return list(ids[first:end]) == _tokenize(tokenizer, text[int(spans[first, 0]) if first else 0 : boundary])


def _answer_start(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, Any]],
    row: ChatRow,
    text: str,
    index: int,
) -> int:
    """Character of `text` where the answer of message `index` starts, by rendering its prompt."""
    prompt = _render(tokenizer, messages[:index], row.tools, add_generation_prompt=True)
    if not text.startswith(prompt):
        raise RowRefusedError(
            f"message {index + 1}: the chat template changes earlier turns, so its answer cannot be found"
        )
    content = messages[index]["content"].strip()
    if content and text[len(prompt) :].lstrip().startswith(content):
        return len(prompt)
    preamble = _preamble(tokenizer, messages[:index], row.tools, prompt)
    return len(prompt) + (len(preamble) if text.startswith(preamble, len(prompt)) else 0)


def _preamble(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    prompt: str,
) -> str:
    """What the template writes between its generation prompt and an answer: an empty thinking block, or nothing.

    It is context, not learned, so a served prompt has it as trained rows have.
    """
    probe = {"role": "assistant", "content": _PROBE}
    try:
        text = _render(tokenizer, [*messages, probe], tools, add_generation_prompt=False)
    except RowRefusedError:
        return ""
    found = text.find(_PROBE, len(prompt))
    between = text[len(prompt) : found] if found >= 0 and text.startswith(prompt) else ""
    return between if between.strip() else ""


def _turn_end(ids: Sequence[int], first: int, stop_token_ids: Sequence[int]) -> int:
    """Position of the stop token that ends the answer starting at `first`."""
    for position in range(first, len(ids)):
        if ids[position] in stop_token_ids:
            return position
    raise RowRefusedError("the chat template ends the answer without a stop token of this base")


def _verify_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], message: ChatMessage, index: int) -> None:
    """decode(learned tokens) must be the answer and its stop token, nothing else."""
    decoded = decode(tokenizer, ids[:-1])
    if message.tool_calls:
        names = [call.get("function", {}).get("name", "") for call in message.tool_calls]
        if not all(name in decoded for name in names):
            raise RowRefusedError(f"message {index + 1}: the base's chat template does not write tool calls")
    elif decoded.strip() != (message.content or "").strip():
        raise RowRefusedError(f"message {index + 1}: the learned tokens do not decode to the answer")


def _refuse_control_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]]) -> None:
    """Text that spells a control token would become that token and forge or end turns."""
    control_tokens = tokenizer.all_special_tokens
    for index, message in enumerate(messages):
        content = message.get("content")
        for token in control_tokens:
            if content and token in content:
                raise RowRefusedError(f"message {index + 1} contains the control token '{token}'")


def _refuse_ignored_tools(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], row: ChatRow, text: str
) -> None:
    if row.tools and _render(tokenizer, messages, None, add_generation_prompt=False) == text:
        raise RowRefusedError("the base's chat template ignores tools")


def _encode_completion(tokenizer: PreTrainedTokenizerBase, row: ChatRow) -> EncodedRow:
    """Prompt + completion + eos, without a template."""
    prompt, completion = (message.content or "" for message in row.messages)
    ids = render_completion_prompt(tokenizer, prompt)
    answer = _tokenize(tokenizer, completion)
    eos = tokenizer.eos_token_id
    if not completion:
        raise RowRefusedError("the completion is empty")
    if eos is None:
        raise RowRefusedError("this base has no end token")
    if not ids:
        raise RowRefusedError("the prompt is empty and this base has no BOS token to start from")
    if eos in answer:
        raise RowRefusedError("the completion contains the end token")
    mask = np.zeros(len(ids) + len(answer) + 1, dtype=np.bool_)
    mask[len(ids) :] = True
    return _trimmed(row.line, [*ids, *answer, eos], mask)


def _trimmed(line: int, ids: Sequence[int], mask: npt.NDArray[np.bool_]) -> EncodedRow:
    if mask[0]:
        raise RowRefusedError("the answer starts the row: there is nothing to predict it from")
    end = int(np.flatnonzero(mask)[-1]) + 1
    return EncodedRow(line, np.asarray(ids[:end], dtype=np.int32), mask[:end])


def _content_text(content: object) -> str:
    """Content as one text; OpenAI's list of text parts is joined."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        return "".join(str(part["text"]) for part in content)
    raise RowRefusedError("only text content is supported")


def _plain_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose arguments are an object: templates print them as JSON themselves."""
    plain = dict(call)
    function = dict(plain.get("function", {}))
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError as error:
            raise RowRefusedError(f"tool call arguments are not JSON: {error}") from error
    plain["function"] = function
    return plain
