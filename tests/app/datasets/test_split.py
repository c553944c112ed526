"""Holding out by content: deterministic, equal prompts together, never an empty training side."""

from hypothesis import given
from hypothesis import strategies as st

from app.contracts.rows import ChatMessage, ChatRow
from app.datasets.facts import facts_of
from app.datasets.split import choose_heldout, heldout_count, leaked


def fact(line, prompt, answer="x"):
    row = ChatRow(
        line=line, messages=(ChatMessage(role="user", content=prompt), ChatMessage(role="assistant", content=answer))
    )
    return facts_of(row)


facts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=2, max_size=80).map(
    lambda pairs: [fact(line, f"p{prompt}", f"a{answer}") for line, (prompt, answer) in enumerate(pairs, 1)]
)


@given(facts)
def test_something_is_held_out_and_something_remains(rows):
    chosen, _ = choose_heldout(rows)
    assert 1 <= len(chosen) <= 2 * heldout_count(len(rows))
    assert len(chosen) < len(rows)


@given(facts, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_rows(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert choose_heldout(shuffled) == choose_heldout(rows)


@given(facts)
def test_equal_prompts_stay_on_one_side(rows):
    chosen, by_prompt = choose_heldout(rows)
    train = [row for row in rows if row.line not in chosen]
    heldout = [row for row in rows if row.line in chosen]
    if by_prompt:
        assert leaked(train, heldout) == 0


def test_a_tenth_of_distinct_prompts_is_held_out():
    rows = [fact(line, f"p{line}") for line in range(1, 401)]
    chosen, by_prompt = choose_heldout(rows)
    assert (len(chosen), by_prompt) == (40, True)
    smallest = sorted(rows, key=lambda row: row.group_hash)[:40]
    assert chosen == {row.line for row in smallest}


def test_one_prompt_everywhere_is_split_by_whole_rows():
    rows = [fact(line, "same", f"a{line}") for line in range(1, 21)]
    chosen, by_prompt = choose_heldout(rows)
    assert (len(chosen), by_prompt) == (2, False)


def test_the_answer_is_no_part_of_the_prompts_hash_but_of_the_rows():
    assert fact(1, "p", "x").prompt_hash == fact(2, "p", "y").prompt_hash
    assert fact(1, "p", "x").row_hash != fact(1, "p", "y").row_hash
