"""Hazard 26: match, walrus, del, unbound locals, global, and the rest of Python's grammar."""

from __future__ import annotations

from tests.capture.law import assert_law, choose

COUNTER = 0


def test_match_statements_around_and_with_yields():
    def model():
        match (yield choose([1, 2], {"k": 3}, "text", None)):
            case [x, y] if (yield choose(False, True)):
                return "sequence", x, y
            case {"k": v, **rest}:
                return "mapping", v, rest, (yield choose(0, 1))
            case str(s):
                return "text", s
            case other:
                return "other", other

    assert_law(model)


def test_walrus_in_conditions_with_yields():
    def model():
        total = 0
        while (x := (yield choose(0, 1, 2))) and total < 3:
            total += x
        return total, [y := x, y]

    assert_law(model)


def test_deleted_and_unbound_locals():
    def model():
        x = [1]
        if (yield choose(False, True)):
            del x
        if (yield choose(False, True)):
            y = 1
        try:
            return x, y
        except UnboundLocalError as error:
            return str(error)

    assert_law(model)


def test_deleted_cells():
    def model():
        x = 1

        def get():
            return x

        if (yield choose(False, True)):
            del x
        a = yield choose(0, 1)
        try:
            return get(), a
        except NameError as error:
            return str(error)

    assert_law(model)


def test_unpacking_with_stars():
    def model():
        a, *b, c = [1, (yield choose(0, 1)), 3, 4]
        b.append((yield choose(0, 1)))
        [d, [e, *f]] = [c, [a, *b]]
        return a, b, c, d, e, f

    assert_law(model)


def test_loops_with_else_break_and_continue():
    def model():
        seen = []
        for i in range(3):
            if (yield choose(False, True)):
                continue
            for j in range(2):
                if (yield choose(False, True)):
                    break
                seen.append((i, j))
            else:
                seen.append("else")
                break
        else:
            seen.append("all")
        return seen

    assert_law(model, orders=2)


def test_conditional_expressions_lambdas_and_default_arguments():
    def model():
        x = (yield choose(1, 2)) if (yield choose(False, True)) else (yield choose(3, 4))
        f = lambda y, z=[x]: (z.append(y), z)[1]  # noqa: E731
        f((yield choose(5, 6)))
        return f(7)

    assert_law(model)


def test_many_locals_and_a_deep_value_stack():
    names = [f"v{i}" for i in range(300)]
    body = "\n".join(f"    {name} = [{i}]" for i, name in enumerate(names))
    deep = "(yield choose(0, 1))"
    for i in range(60):
        deep = f"[{i}, {deep}]"
    scope = {"choose": choose}
    exec(f"def model():\n{body}\n    x = {deep}\n    v0.append(x)\n    return v0, v299", scope)
    assert_law(scope["model"])


def test_positional_only_keyword_only_star_and_double_star_arguments():
    def body(a, /, b, *args, c, d=4, **kwargs):
        args = [*args, (yield choose(0, 1))]
        kwargs["z"] = yield choose(0, 1)
        return a, b, args, c, d, kwargs

    def model():
        return (yield from body(1, 2, 3, 4, c=5, e=6))

    assert_law(model)


def test_locals_may_be_asked_for():
    def model():
        x = [1]
        before = dict(locals())
        x.append((yield choose(0, 1)))
        seen = locals()
        y = yield choose(0, 1)
        after = dict(locals())
        return before["x"], seen["x"] is x, after["y"], y, sorted(after)

    assert_law(model)


def test_a_yield_inside_a_class_body_argument_and_a_decorator():
    def model():
        def mark(x):
            def decorate(f):
                f.mark = x
                return f

            return decorate

        @mark((yield choose(0, 1)))
        def f(x=(yield choose(2, 3))):
            return x

        return f(), f.mark, (yield choose(4, 5))

    assert_law(model)


def test_type_hints_and_annotations():
    def model():
        x: list[int] = [1]
        y: int
        x.append((yield choose(0, 1)))
        y = yield choose(0, 1)
        return x, y

    assert_law(model)


def test_large_jumps_over_extended_arguments():
    filler = "\n".join(f"        z = {i} + a" for i in range(400))
    scope = {"choose": choose}
    exec(
        f"def model():\n    xs = []\n    for i in range(3):\n        a = yield choose(0, 1)\n{filler}\n"
        f"        xs.append((a, z))\n    return xs",
        scope,
    )
    assert_law(scope["model"])


def test_assertions_and_chained_comparisons_with_yields():
    def model():
        assert (yield choose(0, 1)) < (yield choose(1, 2)), "no"
        return 0 <= (yield choose(0, 1)) < (yield choose(0, 1))

    assert_law(model)
