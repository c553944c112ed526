"""Holding out by content: deterministic, equal prompts together, never an empty training side."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.contracts.rows import ChatMessage, ChatRow, LabelledText, PreferenceRow, Span, TaggedText, TextPair
from app.datasets.facts import facts_of
from app.datasets.split import choose_heldout, choose_selection, heldout_count, leaked, leaked_lines


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


def labelled(line, text, *labels):
    return facts_of(LabelledText(line=line, text=text, labels=labels))


def test_equal_prompts_are_equal_whatever_their_case_spaces_and_punctuation():
    first, second = labelled(1, "Where is my top-up?", "a"), labelled(2, " where  is my TOP up", "b")
    assert first.group_hash == second.group_hash
    assert first.prompt_hash != second.prompt_hash
    assert (leaked([first], [second]), leaked_lines([first], [second])) == (0, (2,))


def test_signs_that_mean_something_make_another_prompt():
    texts = ["2 + 2 = 4", "2 - 2 = 4", "1.5", "15", "???", "!!!", "C#", "C", "\U0001f600", "\U0001f621"]
    assert len({labelled(1, text, "a").group_hash for text in texts}) == len(texts)


def test_each_kind_of_row_is_known_by_what_the_model_is_given():
    message = ChatMessage(role="user", content="p")
    answers = [ChatMessage(role="assistant", content=text) for text in "ab"]
    rows = [
        (
            PreferenceRow(line=1, messages=(message,), preferred=answers[0], non_preferred=answers[1]),
            PreferenceRow(line=2, messages=(message,), preferred=answers[1], non_preferred=answers[0]),
        ),
        (LabelledText(line=1, text="p", labels=("a",)), LabelledText(line=2, text="p", labels=("b",))),
        (
            TaggedText(line=1, text="p", spans=()),
            TaggedText(line=2, text="p", spans=(Span(start=0, end=1, label="X"),)),
        ),
        (TextPair(line=1, source="p", target="a"), TextPair(line=2, source="p", target="b")),
    ]
    for one, other in rows:
        assert facts_of(one).prompt_hash == facts_of(other).prompt_hash
        assert facts_of(one).row_hash != facts_of(other).row_hash


labelled_rows = st.lists(
    st.tuples(st.integers(0, 40), st.lists(st.sampled_from("abcde"), max_size=3, unique=True)), min_size=2, max_size=120
).map(lambda pairs: [labelled(line, f"t{text}", *labels) for line, (text, labels) in enumerate(pairs, 1)])


@given(labelled_rows, st.randoms())
def test_no_label_loses_its_last_training_row_and_order_makes_no_difference(rows, random):
    chosen, by_prompt = choose_heldout(rows)
    rest = [row for row in rows if row.line not in chosen]
    heldout = [row for row in rows if row.line in chosen]
    selection = choose_selection(rest)
    train = [row for row in rest if row.line not in selection]
    assert {label for row in rows for label in row.labels} == {label for row in train for label in row.labels}
    assert len(chosen) <= 2 * heldout_count(len(rows))
    assert len(selection) <= 2 * round(0.1 * len(rest))
    if by_prompt:
        assert not leaked_lines(rest, heldout)
    assert not leaked_lines(train, [row for row in rest if row.line in selection])
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert choose_heldout(shuffled) == (chosen, by_prompt)


def test_each_label_is_held_out_in_its_share():
    sizes = {"common": 800, "usual": 150, "rare": 50}
    rows = [
        labelled(1000 * place + number, f"{label} {number}", label)
        for place, (label, size) in enumerate(sizes.items(), 1)
        for number in range(size)
    ]
    chosen, _ = choose_heldout(rows)
    assert Counter(row.labels[0] for row in rows if row.line in chosen) == {"common": 80, "usual": 15, "rare": 5}


def test_labels_of_one_row_each_leave_nothing_to_hold_out():
    rows = [labelled(line, f"t{line}", f"l{line}") for line in range(1, 21)]
    assert choose_heldout(rows) == (frozenset(), True)


def test_a_tenth_of_the_training_rows_selects_from_a_hundred_on_and_five_hundred_at_most():
    def size(rows):
        return len(choose_selection([fact(line, f"p{line}") for line in range(1, rows + 1)]))

    assert [size(rows) for rows in (99, 100, 1000, 8000)] == [0, 10, 100, 500]


def test_one_prompt_everywhere_gives_no_selection_rows():
    assert choose_selection([fact(line, "same", f"a{line}") for line in range(1, 201)]) == frozenset()
