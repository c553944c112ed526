"""The rows every rung trains on: token ids and where the answers lie. No torch here."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

WORDS = tuple(
    (  # noqa: SIM905 a text is easier to read
        "the customer wrote that a parcel came late and asked for money back because order was wrong please check "
        "whether we can send another one before friday or cancel it then tell her what happened with first delivery "
        "machine does not start after update screen stays black light blinks twice our team looked at photo found "
        "broken cable replaced part tested again works now thank you very much for patience best regards support"
    ).split()
)


@dataclass(frozen=True)
class TokenRow:
    input_ids: list[int]
    first_supervised: int  # all tokens from here on are learned


def lognormal_lengths(count: int, *, mean: int, longest: int, seed: int, sigma: float = 0.8) -> list[int]:
    """Lengths as instruction sets have them: many short, few long; their mean is `mean` before the cut."""
    import math

    draw = random.Random(seed)  # noqa: S311 not for secrets
    mu = math.log(mean) - sigma**2 / 2
    return [min(longest, max(16, round(draw.lognormvariate(mu, sigma)))) for _ in range(count)]


def made_rows(name: str, count: int, next_ids: Callable[[int], list[int]], *, seed: int = 1) -> list[TokenRow]:
    """Set R: lognormal lengths, mean 300, at most 2048, 45 % supervised. Set U: every row 4096, all supervised."""
    if name == "U":
        return [TokenRow(next_ids(4096), 1) for _ in range(count)]
    lengths = lognormal_lengths(count, mean=300, longest=2048, seed=seed)
    return [TokenRow(next_ids(length), length - round(0.45 * length)) for length in lengths]


def word_ids(base: Path, seed: int = 1) -> Callable[[int], list[int]]:
    """Text of common words in the tokens of `base`, endlessly."""
    from tokenizers import Tokenizer  # a random-weight shape needs none

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    choices = [tokenizer.encode(" " + word, add_special_tokens=False).ids for word in WORDS]
    draw = random.Random(seed)  # noqa: S311 not for secrets

    def next_ids(length: int) -> list[int]:
        ids: list[int] = []
        while len(ids) < length:
            ids.extend(draw.choice(choices))
        return ids[:length]

    return next_ids


def random_ids(vocabulary: int, seed: int = 1) -> Callable[[int], list[int]]:
    draw = random.Random(seed)  # noqa: S311 not for secrets
    return lambda length: [draw.randrange(vocabulary) for _ in range(length)]


def chat_rows(path: Path, base: Path, longest: int) -> list[TokenRow]:
    """Rows of a chat JSONL file (`messages`), through the engine's own encoding; learned is the last answer."""
    from transformers import AutoTokenizer  # only for this option

    from app.contracts.rows import ChatRow
    from workers.engine.recipes.templates import encode_row, find_turn_end

    tokenizer = AutoTokenizer.from_pretrained(base)
    stops = [i for i in (tokenizer.eos_token_id, find_turn_end(tokenizer)) if i is not None]
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = encode_row(tokenizer, ChatRow(line=number, messages=json.loads(line)["messages"]), stops)
        unlearned = [i for i, learned in enumerate(row.is_supervised) if not learned]
        if row.tokens <= longest:
            rows.append(TokenRow(row.input_ids.tolist(), unlearned[-1] + 1))
    return rows


def write_rows(path: Path, rows: list[TokenRow]) -> None:
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read_rows(path: str) -> list[TokenRow]:
    return [TokenRow(**json.loads(line)) for line in Path(path).read_text().splitlines()]
