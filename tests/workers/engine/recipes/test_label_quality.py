"""Wrong labels are found before the first step, right ones mostly left alone."""

import torch

from workers.engine.recipes.label_quality import find_suspects

LABELS, WIDTH, ROWS = 6, 32, 360


def drawn(share: float, *, spread: float = 0.6) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    """Features around one centre a label, and labels of which a share is wrong."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(LABELS, WIDTH, generator=generator)
    truth = torch.arange(ROWS) % LABELS
    features = centres[truth] + spread * torch.randn(ROWS, WIDTH, generator=generator)
    wrong = torch.randperm(ROWS, generator=generator)[: int(share * ROWS)]
    targets = truth.clone()
    targets[wrong] = (truth[wrong] + 1 + torch.randint(LABELS - 1, (len(wrong),), generator=generator)) % LABELS
    return features, targets, set(wrong.tolist())


def test_a_tenth_of_wrong_labels_is_found_with_the_label_that_fits():
    features, targets, wrong = drawn(0.1)
    found = find_suspects(features, targets, LABELS, poll=lambda: None)
    places = {one.place for one in found}
    assert len(places & wrong) >= 0.75 * len(wrong)
    assert len(places - wrong) <= 0.1 * len(places)
    assert sum(one.likelier == one.place % LABELS for one in found) >= 0.9 * len(found)
    assert [one.confidence for one in found] == sorted(one.confidence for one in found)


def test_clean_labels_are_left_alone():
    features, targets, _ = drawn(0.0)
    assert len(find_suspects(features, targets, LABELS, poll=lambda: None)) <= ROWS // 100


def test_too_few_rows_say_nothing():
    features, targets, _ = drawn(0.1)
    assert find_suspects(features[:40], targets[:40], LABELS, poll=lambda: None) == []


def test_a_label_that_no_row_bears_is_never_likelier():
    features, targets, _ = drawn(0.1)
    found = find_suspects(features, targets, LABELS + 2, poll=lambda: None)
    assert found
    assert all(one.likelier < LABELS for one in found)
