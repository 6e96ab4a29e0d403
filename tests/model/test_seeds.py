"""Seeds: the same for the same purpose, others for others."""

from itertools import product

from model import seeds


def test_seeds_of_purposes_and_numbers_differ():
    asked = [(purpose, seed, epoch) for purpose, seed, epoch in product(("digits", "others"), range(40), range(100))]
    found = {seeds.derive_seed(*one) for one in asked}
    assert len(found) > len(asked) - 2  # 8,000 draws from 2**32 hardly ever meet
    assert all(0 <= seed < 2**32 for seed in found)


def test_seed_stays_what_it_is():
    assert seeds.derive_seed("drawn digits", 0, 1) == seeds.derive_seed("drawn digits", 0, 1)
    assert seeds.derive_seed("drawn digits", 0, 1) != seeds.derive_seed("drawn digits", 1, 0)
    assert seeds.derive_seed("drawn digits", 2**32) != seeds.derive_seed("drawn digits", 0)
