"""Which kind of row do these columns make, and which column is which? Told from their names alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from app.datasets.report import Format
from app.datasets.tasks import wire_name

TEXT = ("text", "sentence", "utterance", "content", "question")
LABEL = ("label", "labels", "category", "intent", "class", "target")
SOURCE = ("source", "document", "article", "dialogue", "text")
TARGET = ("target", "summary", "highlights", "section_text")
TOKENS = ("tokens",)
TAGS = ("tags", "ner_tags")
SPANS = ("spans", "entities")
_KNOWN = frozenset({*TEXT, *LABEL, *SOURCE, *TARGET, *TOKENS, *TAGS, *SPANS})

UNDERSTOOD: dict[Format, str] = {
    "text_classification": f"a text ({', '.join(TEXT)}) with its label ({', '.join(LABEL)})",
    "token_classification": f"tokens with {' or '.join(TAGS)}, or text with {' or '.join(SPANS)}",
    "summarization": f"a source ({', '.join(SOURCE)}) with its target ({', '.join(TARGET)})",
    "chat": "messages",
    "completion": "prompt with completion",
    "preference": "input with preferred_output and non_preferred_output",
}
_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 40
# "text,target" may be either: only a task that is named makes a pair of it.
_SHARED = ("text", "target")


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of row with the two columns it is made of: text and label, tokens and tags, source and target."""

    format: Format
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Names that may mean several things. `text` follows "The columns" or "Example N"."""

    check: str
    text: str


def find_layout(names: frozenset[str], wanted: Format | None = None) -> Layout | Unclear | None:
    """The layout of `names`, read as `wanted` if that is given; None if columns are missing.

    Never a guess: where two columns could be meant, or two kinds of rows, the answer is `Unclear`.
    """
    return _find_layout(names & _KNOWN, wanted)


@lru_cache(maxsize=256)
def _find_layout(names: frozenset[str], wanted: Format | None) -> Layout | Unclear | None:
    candidates: dict[Format, Layout | Unclear | None] = {
        "text_classification": _pair("text_classification", TEXT, LABEL, names),
        "token_classification": _tagged(names),
        "summarization": _pair("summarization", SOURCE, TARGET, names),
    }
    found = {kind: layout for kind, layout in candidates.items() if layout is not None}
    if wanted is not None:
        return found.get(wanted)
    pair, labelled = found.get("summarization"), found.get("text_classification")
    if isinstance(pair, Layout) and isinstance(labelled, Layout):
        if (pair.first, pair.second) == _SHARED:
            del found["summarization"]
        elif labelled.second == pair.second:
            # "source,text,target": the target is the pair's, no label.
            del found["text_classification"]
    if len(found) > 1:
        tasks = " or ".join(wire_name(kind) for kind in found)
        return Unclear("ambiguous_format", f' could be read as {tasks}: name the one that is meant in the field "task"')
    return next(iter(found.values()), None)


def chat_format(names: Iterable[str]) -> Format | None:
    """The format of OpenAI's rows, which their own keys tell."""
    names = frozenset(names)
    if "preferred_output" in names or "non_preferred_output" in names:
        return "preference"
    if "messages" in names:
        return "chat"
    if "prompt" in names or "completion" in names:
        return "completion"
    return None


def shown(names: Iterable[str]) -> str:
    """Column names for a message, at most some of them."""
    listed = sorted(names)
    texts = [name[:_SHOWN_CHARACTERS] or '""' for name in listed[:_SHOWN_NAMES]]
    more = len(listed) - len(texts)
    return (", ".join(texts) or "none") + (f" and {more} more" if more else "")


def _tagged(names: frozenset[str]) -> Layout | Unclear | None:
    spans = _pair("token_classification", ("text",), SPANS, names)
    return spans or _pair("token_classification", TOKENS, TAGS, names)


def _pair(
    kind: Format, first: tuple[str, ...], second: tuple[str, ...], names: frozenset[str]
) -> Layout | Unclear | None:
    firsts, seconds = _candidates(first, names), _candidates(second, names)
    if not firsts or not seconds:
        return None
    for candidates, role in ((firsts, first[0]), (seconds, second[0])):
        if len(candidates) > 1:
            return Unclear(
                "ambiguous_columns",
                f" has several columns that could be the {role}: {', '.join(candidates)}. "
                f'Name the one that is meant "{role}"',
            )
    return Layout(kind, firsts[0], seconds[0])


def _candidates(known: tuple[str, ...], names: frozenset[str]) -> list[str]:
    """The columns that may play a role; its own name beats the others."""
    found = [name for name in known if name in names]
    if found and found[0] == known[0] and found[1:2] != ["labels"]:
        return found[:1]
    return found
