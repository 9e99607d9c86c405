"""Hazards 5, 19, 23: generators held in locals, sub-models of both forms, deep chains."""

from __future__ import annotations

import contpoutine as cp
from tests.capture.law import assert_law, assert_refused, choose


def squares(n):
    for i in range(n):
        got = yield i * i
        if got:
            yield ("got", got)


def test_a_half_consumed_generator_in_a_local():
    def model():
        g = squares(9)
        seen = [next(g), next(g)]
        seen.append(g.send((yield choose(1, None))))
        seen.append((yield choose(0, 1)))
        return seen, list(g)

    assert_law(model)


def test_generators_in_containers_and_aliases():
    def model():
        gs = [squares(5), squares(7)]
        first = gs[0]
        next(first)
        which = yield choose(0, 1)
        a = next(gs[which])
        b = yield choose(0, 1)
        return a, b, list(first), list(gs[1]), gs[0] is first

    assert_law(model)


def test_generators_that_have_not_begun_or_have_finished():
    def model():
        new, done = squares(2), squares(1)
        list(done)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, list(new), list(done)

    assert_law(model)


def test_a_generator_that_holds_state_in_cells_of_the_model():
    def model():
        log = []

        def worker(name):
            while True:
                log.append((name, (yield len(log))))

        w, v = worker("w"), worker("v")
        next(w), next(v)
        w.send((yield choose(0, 1)))
        v.send((yield choose(2, 3)))
        return log, w.send(9)

    assert_law(model)


def test_sub_models_of_both_forms():
    def leaf(x):
        a = yield choose(x, x + 1)
        b = yield choose(0, 10)
        return a + b

    def model():
        a = yield leaf(1)
        b = yield from leaf(a)
        return a, b

    assert_law(model)


def test_recursion_of_both_forms():
    def tree(depth, pushed):
        if depth == 0:
            return 0
        go = yield choose(False, True)
        if not go:
            return 1
        left = (yield tree(depth - 1, pushed)) if pushed else (yield from tree(depth - 1, pushed))
        right = yield from tree(depth - 1, not pushed)
        return left + right + 1

    assert_law(tree, 3, True)
    assert_law(tree, 3, False)


def test_exceptions_cross_both_forms_of_a_call():
    def leaf(x):
        try:
            if (yield choose(0, 1)):
                raise KeyError(x)
            return "fine"
        finally:
            yield choose("f")

    def model():
        seen = []
        for pushed in (True, False):
            try:
                seen.append((yield leaf(1)) if pushed else (yield from leaf(2)))
            except KeyError as error:
                seen.append(repr(error))
        return seen

    assert_law(model)


def test_a_deep_chain_of_yield_from():
    def nest(n, xs):
        xs.append(n)
        if n == 0:
            a = yield choose(0, 1)
            b = yield choose(0, 1)
            return [a, b]
        result = yield from nest(n - 1, xs)
        result.append(n if n % 100 == 0 else len(xs))
        return result[:4]

    def model():
        return (yield from nest(300, []))

    assert_law(model, orders=2)


def test_a_chain_of_three_thousand_calls_on_the_machines_stack():
    def nest(n):
        if n == 0:
            a = yield choose(0, 1)
            b = yield choose(0, 1)
            return a + b
        return (yield nest(n - 1)) + 1

    assert_law(nest, 3000, orders=2)


def test_a_sub_model_that_is_held_in_a_local_while_it_runs():
    def sub():
        a = yield choose(0, 1)
        return a, (yield choose(0, 1))

    def model():
        g = sub()
        h = g
        result = yield g
        return result, g is h, g.gi_frame is None, (yield choose(0, 1))

    assert_law(model)


def test_a_generator_that_yields_from_an_iterable():
    def model():
        def gen():
            got = yield from [1, 2, 3]
            yield got

        g = gen()
        seen = [next(g)]
        seen.append((yield choose(0, 1)))
        seen.append(next(g))
        seen.append((yield choose(0, 1)))
        return seen, list(g)

    assert_law(model)


def test_a_request_yielded_from():
    def model():
        a = yield from choose(0, 1)
        request = choose(2, 3)
        b = yield request
        return a, b, (yield from choose(4, 5))

    assert_law(model)


def test_a_request_built_before_a_capture_and_performed_after_it():
    def model():
        xs = [5]
        request = choose(xs, (6,))
        a = yield choose(0, 1)
        xs.append(a)
        b = yield request
        return a, [*b]

    assert_law(model)


def test_a_generator_that_runs_while_the_model_is_captured_is_refused():
    # the model is advanced by a plain generator of its own: that one is suspended, not running
    def model():
        def pump():
            yield from (i for i in range(3))

        p = pump()
        next(p)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, list(p)

    assert_law(model)


def test_async_generators_and_coroutines_are_refused_by_name():
    async def coroutine():
        return 1

    async def agen():
        yield 1

    def holds_coroutine():
        c = coroutine()
        c.close()
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, c is not None

    def holds_async_generator():
        g = agen()
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, g is not None

    assert_refused(holds_async_generator, because="async_generator")
    assert_refused(holds_coroutine, because="coroutine")


def test_async_functions_are_no_models():
    import pytest

    async def coroutine():
        return 1

    async def agen():
        yield 1

    for model in (coroutine, agen):
        with pytest.raises(cp.errors.NotAModelError):
            cp.run(model)


def test_resuming_a_computation_that_has_finished_is_an_error():
    import pytest

    from contpoutine.core.machine import Computation
    from contpoutine.core.model import start

    def model():
        return (yield choose(0, 1))

    computation = Computation([start(model, (), {})], (), None)
    computation.resume()
    assert computation.answer(1).value == 1
    for again in (computation.resume, lambda: computation.answer(1)):
        with pytest.raises(cp.errors.FinishedError):
            again()
