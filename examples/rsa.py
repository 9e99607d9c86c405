"""Reasoning about reasoning: how "it cost ten thousand dollars" comes to mean "it was expensive".

The rational speech act model of hyperbole of Kao, Wu, Bergen and Goodman ("Nonliteral understanding
of number words", 2014). Somebody says what an electric kettle cost. Three models, each of which
asks the one before it:

    a literal listener takes the number at its word;
    a speaker chooses the number from which a literal listener would learn what the speaker cares
        about: the price, how annoyed one is, or both, exactly or roughly;
    a pragmatic listener hears the number, and infers price, annoyance and what was cared about.

Nothing is written to make this fast. The pragmatic listener meets the same questions on many of its
paths, and an outer query remembers what the queries inside of it have answered.
"""

import math
from typing import NamedTuple

import contpoutine as cp
import contpoutine.distributions as dist


class State(NamedTuple):
    price: int | None  # None: it does not matter
    annoyed: bool | None


PRICE = dist.Finite.from_weights(
    {
        50: 0.4205,
        51: 0.3865,
        500: 0.0533,
        501: 0.0538,
        1000: 0.0223,
        1001: 0.0211,
        5000: 0.0112,
        5001: 0.0111,
        10000: 0.0083,
        10001: 0.0120,
    }
)
ANNOYED = {50: 0.3173, 500: 0.7920, 1000: 0.8933, 5000: 0.9524, 10000: 0.9864}


def roughly(price):
    return (price + 5) // 10 * 10


# A round number is said with less effort than a precise one.
UTTERANCE = dist.Finite.from_weights(
    {price: 1.0 if price == roughly(price) else math.exp(-1.0) for price in PRICE.values}
)

# What a speaker may care about, as a function of the state.
CONCERNS = {
    "price": lambda state: State(state.price, None),
    "annoyance": lambda state: State(None, state.annoyed),
    "both": lambda state: state,
    "rough price": lambda state: State(roughly(state.price), None),
    "rough price, annoyance": lambda state: State(roughly(state.price), state.annoyed),
}


def kettle():
    price = yield cp.sample("price", PRICE)
    annoyed = yield cp.sample("annoyed", dist.Flip(ANNOYED[roughly(price)]))
    return State(price, annoyed)


def literal_listener(utterance, concern):
    state = yield kettle()
    yield cp.factor("taken at its word", 0.0 if state.price == utterance else -math.inf)
    return CONCERNS[concern](state)


def speaker(meant, concern):
    utterance = yield cp.sample("utterance", UTTERANCE)
    listener = cp.infer.enumerate(literal_listener)(utterance, concern)
    yield cp.observe("understood", listener.marginal(), meant)
    return utterance


def pragmatic_listener(utterance):
    state = yield kettle()
    concern = yield cp.sample("concern", dist.UniformDraw(CONCERNS))
    said = cp.infer.enumerate(speaker)(CONCERNS[concern](state), concern)
    yield cp.observe("heard", said.marginal(), utterance)
    return state


def main():
    heard = 10_000
    posterior = cp.infer.enumerate(pragmatic_listener)(heard)
    print(f'heard: "it cost {heard} dollars"')
    for state, probability in posterior.marginal().items():
        mood = "annoyed" if state.annoyed else "not annoyed"
        print(f"  {state.price:6d}, {mood:11s}  {probability:.4f}")
    annoyed = posterior.marginal("annoyed")[True]
    before = cp.infer.enumerate(kettle)().marginal("annoyed")[True]
    print(f"annoyed: {annoyed:.4f}; before a word was said, {before:.4f}")


if __name__ == "__main__":
    main()
