"""The hyperbole model gives the numbers that its authors' chapter and Pyro's example print."""

import pytest

import contpoutine as cp
from tests.examples.conftest import load

# For "it cost 10,000 dollars": price -> (not annoyed, annoyed), from
# https://gscontras.github.io/probLang/chapters/03-nonliteral.html by way of Pyro's example.
PUBLISHED = {
    50: (0.02094455861717477, 0.18962994295418778),
    51: (0.01925106279557206, 0.17429720083660782),
    500: (0.0008088460212743665, 0.05999612935009309),
    501: (0.0008164336950199063, 0.060558944822420434),
    1000: (0.00017359794987374924, 0.028312162297699582),
    1001: (0.00016425635615857924, 0.026788637869123822),
    5000: (0.00003889558295405101, 0.015160315922876075),
    5001: (0.00003854830096338984, 0.01502495595927897),
    10000: (0.0030440475496016296, 0.23182161303428897),
    10001: (0.0018655171404222354, 0.1512643329444101),
}


def test_the_pragmatic_listener_agrees_with_the_published_numbers():
    rsa = load("rsa")
    found = cp.infer.enumerate(rsa.pragmatic_listener)(10_000).marginal()
    assert len(found) == 20
    for price, masses in PUBLISHED.items():
        for annoyed, mass in enumerate(masses):
            assert found[rsa.State(price, bool(annoyed))] == pytest.approx(mass, rel=1e-9)


def test_the_example_prints_what_was_understood(printed):
    lines = printed("rsa").splitlines()
    assert lines[0] == 'heard: "it cost 10000 dollars"'
    assert lines[1] == "   10000, annoyed      0.2318"
    assert lines[-1] == "annoyed: 0.9529; before a word was said, 0.4209"
