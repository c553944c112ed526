"""Whether a text is caught in a loop: the same piece over and over."""

import numpy as np

_LONGEST_PIECE = 400  # characters
_FEWEST_TIMES = 4
_FEWEST_TIMES_LONG = 3
_LONG_PIECE = 40  # characters: a sentence that stands three times in a row is enough
_FEWEST_CHARACTERS = 24  # "no, no, no, no" is speech


def is_loop(text: str) -> bool:
    """Some piece with a letter or digit in it repeats without a break, four times (three from 40 characters on).

    Letter case and the amount of white space do not matter; rules of dashes are no loops. The repetition is at least
    24 characters long.
    """
    # The space at the end completes the last piece, if the text ends with one.
    plain = " ".join(text.casefold().split()) + " "
    codes = np.frombuffer(plain.encode("utf-32-le"), dtype=np.uint32)
    for period in range(1, min(_LONGEST_PIECE, len(codes) // _FEWEST_TIMES_LONG) + 1):
        times = _FEWEST_TIMES if period < _LONG_PIECE else _FEWEST_TIMES_LONG
        # A run of k characters that equal those one period before is k + period characters of repetition.
        wanted = max(times * period, _FEWEST_CHARACTERS) - period
        for end in _run_ends(codes[period:] == codes[:-period], wanted):
            if any(character.isalnum() for character in plain[end : end + period]):
                return True
    return False


def _run_ends(same: "np.ndarray[tuple[int], np.dtype[np.bool_]]", wanted: int) -> list[int]:
    """Where runs of at least `wanted` true values end (exclusive)."""
    edges = np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [int(end) for end in ends[ends - starts >= wanted]]
