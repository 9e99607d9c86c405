"""The message behaves the same in C and in Python: a dictionary to handlers, a request to models."""

from __future__ import annotations

import copy
import gc
import math
import operator
import sys
import threading
import warnings

import pytest

import contpoutine as cp
from contpoutine.core.message import KEYS
from contpoutine.errors import UnperformedEffectError, UnperformedEffectWarning


def performed(messages, **fields):
    msg = messages.type(**fields)
    msg.perform()
    return msg


def test_absent_fields_have_the_defaults_of_the_seed(messages):
    msg = performed(messages, type="sample", name="x")
    assert list(msg) == list(KEYS) == msg.keys()
    assert dict(**msg) == dict(msg.items()) == dict(zip(msg.keys(), msg.values()))
    assert dict(msg.items()) == {
        "type": "sample",
        "name": "x",
        "fn": None,
        "value": None,
        "is_observed": False,
        "args": (),
        "kwargs": {},
        "infer": {},
        "done": False,
        "stop": False,
        "scale": 1.0,
        "mask": None,
        "continuation": None,
        "cond_indep_stack": (),
    }
    assert len(msg) == 14


def test_mutable_defaults_belong_to_their_message(messages):
    a, b = performed(messages, type="t"), performed(messages, type="t")
    a["infer"]["k"] = 1
    a["kwargs"]["k"] = 2
    assert (a["infer"], a["kwargs"]) == ({"k": 1}, {"k": 2})
    assert (b["infer"], b["kwargs"]) == ({}, {})


def test_handlers_add_keys_of_their_own(messages):
    msg = performed(messages, type="t")
    assert "extra" not in msg and msg.get("extra") is None and msg.get("extra", 3) == 3
    msg["extra"] = 1
    assert msg["extra"] == 1 and "extra" in msg and msg.keys()[-1] == "extra" and len(msg) == 15
    assert msg.setdefault("extra", 5) == 1 and msg.setdefault("more", 5) == 5
    assert msg.setdefault("scale", 5) == 1.0
    del msg["extra"]
    assert "extra" not in msg
    with pytest.raises(KeyError):
        msg["extra"]
    with pytest.raises(KeyError):
        del msg["extra"]
    with pytest.raises(KeyError, match="cannot be deleted"):
        del msg["value"]


def test_update_takes_mappings_pairs_and_keywords(messages):
    msg = performed(messages, type="t")
    msg.update({"value": 1, "mine": 2}, scale=3.0)
    msg.update([("name", "n")])
    msg.update(performed(messages, type="other", value=7))
    assert (msg["type"], msg["value"], msg["mine"], msg["scale"]) == ("other", 7, 2, 1.0)
    with pytest.raises((TypeError, ValueError)):
        msg.update(3)


def test_keys_that_are_not_interned_are_found(messages):
    msg = performed(messages, type="t", value=5)
    assert msg["".join(["va", "lue"])] == 5
    msg["".join(["is_obs", "erved"])] = True
    assert msg["is_observed"] is True

    class Key(str):
        pass

    msg[Key("value")] = 6
    assert msg["value"] == 6 and msg[Key("value")] == 6 and Key("value") in msg


def test_a_copy_has_its_own_infer_and_shares_the_rest(messages):
    xs = []
    msg = performed(messages, type="t", args=(xs,), infer={"a": 1}, mine=xs)
    fresh = msg.copy()
    fresh["infer"]["a"] = 2
    fresh["value"] = 3
    fresh["mine2"] = 1
    assert msg["infer"] == {"a": 1} and msg["value"] is None and "mine2" not in msg
    assert fresh["args"][0] is xs and fresh["mine"] is xs
    assert fresh.performed and fresh.where == msg.where


def test_where_says_file_line_and_function(messages):
    msg = messages.type(type="t")
    assert "test_message.py:" in msg.where
    assert msg.where.endswith(", in test_where_says_file_line_and_function")
    assert int(msg.where.rpartition(":")[2].split(",")[0]) > 100
    msg.perform()


def test_a_request_that_is_made_further_in_can_be_placed_at_a_frame(messages):
    msg = performed(messages, type="sample", name="x")

    def further_in():
        return msg.born_at(sys._getframe(1))

    assert further_in() is msg
    line = sys._getframe().f_lineno - 1
    assert f"test_message.py:{line}, in test_a_request" in msg.where


def test_a_message_takes_keywords_only(messages):
    with pytest.raises(TypeError):
        messages.type("sample")


OPERATIONS = {
    "x + 1": lambda x: x + 1,
    "1 + x": lambda x: 1 + x,
    "x - 1": lambda x: x - 1,
    "x * 2": lambda x: x * 2,
    "x / 2": lambda x: x / 2,
    "x // 2": lambda x: x // 2,
    "x % 2": lambda x: x % 2,
    "x ** 2": lambda x: x**2,
    "pow(x, 2, 3)": lambda x: pow(x, 2, 3),
    "x @ x": lambda x: x @ x,
    "divmod(x, 2)": lambda x: divmod(x, 2),
    "x & 1": lambda x: x & 1,
    "x | 1": lambda x: x | 1,
    "x ^ 1": lambda x: x ^ 1,
    "x << 1": lambda x: x << 1,
    "x >> 1": lambda x: x >> 1,
    "-x": operator.neg,
    "+x": operator.pos,
    "~x": operator.invert,
    "abs(x)": abs,
    "int(x)": int,
    "float(x)": float,
    "index(x)": operator.index,
    "bool(x)": bool,
    "if x": lambda x: 1 if x else 2,
    "not x": operator.not_,
    "x < 1": lambda x: x < 1,
    "x == 1": lambda x: x == 1,
    "1 == x": lambda x: 1 == x,
    "x != 1": lambda x: x != 1,
    "x >= 1": lambda x: x >= 1,
    "hash(x)": hash,
    "{x}": lambda x: {x},
    "{x: 1}": lambda x: {x: 1},
    "len(x)": len,
    "x[0]": lambda x: x[0],
    "x[1:2]": lambda x: x[1:2],
    "1 in x": lambda x: 1 in x,
    "x()": lambda x: x(),
    "x.item()": lambda x: x.item(),
    "x.shape": lambda x: x.shape,
    "math.exp(x)": math.exp,
    "range(x)": range,
    "[1, 2][x]": lambda x: [1, 2][x],
    "sum([x, x])": lambda x: sum([x, x]),
    "x in [1, 2]": lambda x: x in [1, 2],
}


@pytest.mark.parametrize("what", OPERATIONS)
def test_using_a_request_as_its_value_shows_the_line_to_write(messages, what):
    x = messages.sample("x", None)
    with pytest.raises(UnperformedEffectError) as caught:
        OPERATIONS[what](x)
    text = str(caught.value)
    assert "sample('x', ...)" in text and "x = yield sample('x', ...)" in text
    assert "test_message.py:" in text and "used as if it were its value" in text
    del x  # said once: the drop is not reported as well


@pytest.mark.parametrize("what", ["x + 1", "float(x)", "x < 1", "x()"])
def test_a_performed_message_is_no_number_either(messages, what):
    msg = performed(messages, type="t", name="x")
    with pytest.raises((UnperformedEffectError, TypeError)):
        OPERATIONS[what](msg)


def test_a_performed_message_is_compared_and_hashed_by_identity(messages):
    a, b = performed(messages, type="t"), performed(messages, type="t")
    assert a == a and a != b and not (a == b) and hash(a) == hash(a) and len({a, b}) == 2
    assert bool(a) is True


def test_printing_a_request_is_no_misuse(messages):
    x = messages.sample("x", None)
    assert "not yet yielded" in repr(x) and "not yet yielded" in str(x) and "'x'" in f"{x}"
    x.perform()
    assert "not yet yielded" not in repr(x)


def test_a_request_dropped_outside_of_a_machine_warns(messages):
    with pytest.warns(UnperformedEffectWarning, match="never yielded.*x = yield sample") as caught:
        messages.sample("x", None)
        gc.collect()
    assert len(caught) == 1


def test_a_request_dropped_in_a_machine_is_told_to_the_machine(messages):
    messages.machine_runs(+1)
    try:
        messages.sample("x", None)
        messages.sample("y", None)
        with pytest.raises(UnperformedEffectError, match=r"sample\('x'.*never yielded"):
            messages.check_dropped()
        messages.check_dropped()  # told once
    finally:
        messages.machine_runs(-1)


def test_what_was_dropped_in_one_thread_is_not_told_in_another(messages):
    messages.machine_runs(+1)
    seen = []

    def other():
        messages.machine_runs(+1)
        try:
            messages.check_dropped()
            seen.append("nothing")
        finally:
            messages.machine_runs(-1)

    try:
        messages.sample("x", None)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == ["nothing"]
        with pytest.raises(UnperformedEffectError):
            messages.check_dropped()
    finally:
        messages.machine_runs(-1)


def test_a_performed_message_is_dropped_in_silence(messages):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        performed(messages, type="t")
        gc.collect()


def test_a_request_in_a_cycle_is_collected(messages):
    msg = performed(messages, type="t")
    msg["self"] = msg
    msg["infer"]["self"] = msg
    del msg
    gc.collect()


def test_sample_checks_its_name_and_keeps_what_it_is_given(messages):
    for bad in (None, 3, b"x"):
        with pytest.raises(TypeError, match="name of a sample site must be a string"):
            messages.sample(bad, None)
    with pytest.raises(TypeError):
        messages.sample("x")
    fn = object()
    msg = messages.sample("x", fn, 1, 2, obs=5, infer={"a": 1}, k=3)
    assert (msg["type"], msg["name"], msg["fn"]) == ("sample", "x", fn)
    assert (msg["args"], msg["kwargs"], msg["infer"]) == ((1, 2), {"k": 3}, {"a": 1})
    assert (msg["value"], msg["is_observed"]) == (5, True)
    msg.perform()
    msg = messages.sample("x", fn, obs=None, infer=None)
    assert (msg["value"], msg["is_observed"], msg["infer"], msg["args"]) == (None, False, {}, ())
    msg.perform()


def test_yield_from_a_request_yields_it_once_and_gives_the_answer(messages):
    def model():
        x = yield from messages.sample("x", None)
        y = yield from messages.sample("y", None)
        return x, y

    body = model()
    first = body.send(None)
    assert first["name"] == "x"
    first.perform()
    second = body.send(10)
    assert second["name"] == "y"
    second.perform()
    with pytest.raises(StopIteration) as stop:
        body.send((1, 2))
    assert stop.value.value == (10, (1, 2))


def test_yield_from_a_request_lets_an_exception_through(messages):
    def model():
        try:
            yield from messages.sample("x", None)
        except ValueError as error:
            return str(error)

    body = model()
    body.send(None).perform()
    with pytest.raises(StopIteration) as stop:
        body.throw(ValueError("here"))
    assert stop.value.value == "here"


def test_a_message_cannot_be_mistaken_for_a_dict_by_copy(messages):
    msg = performed(messages, type="t", value=1)
    assert copy.copy(dict(msg.items()))["value"] == 1


def test_a_dropped_request_in_a_model_names_the_line(capture):
    def model():
        cp.sample("lost", cp.distributions.Flip(0.5))
        return (yield cp.sample("x", cp.distributions.Flip(0.5)))

    with pytest.raises(UnperformedEffectError, match=r"sample\('lost', \.\.\.\).*test_message"):
        cp.run(model)


def test_a_request_lost_on_the_last_line_is_reported_too():
    def model():
        yield cp.sample("x", cp.distributions.Flip(0.5))
        cp.sample("lost", cp.distributions.Flip(0.5))

    with pytest.raises(UnperformedEffectError, match=r"sample\('lost'"):
        cp.run(model)


def test_a_model_that_fails_reports_its_own_failure_first():
    def model():
        yield cp.sample("x", cp.distributions.Flip(0.5))
        kept = cp.sample("lost", cp.distributions.Flip(0.5))
        raise KeyError("mine", kept is None)

    with pytest.raises(KeyError, match="mine"):
        cp.run(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def test_torch_functions_are_refused_by_a_protocol_that_needs_no_torch(messages):
    x = messages.sample("x", None)
    with pytest.raises(UnperformedEffectError, match="yield"):
        messages.type.__torch_function__(None, (), (x,), {})


def test_a_misspelt_keyword_of_a_distribution_is_refused(messages):
    class Coin:
        def log_prob(self, value):
            return 0.0

    with pytest.raises(TypeError, match=r"no keyword 'observed'. It takes obs="):
        messages.sample("x", Coin(), observed=True)
    assert messages.sample("x", Coin(), sample_shape=(2,)).perform() is None
