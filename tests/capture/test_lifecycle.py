"""Hazards 12, 15 to 21, 24: looking at frames, tracing, threads, shutdown, many continuations."""

from __future__ import annotations

import gc
import inspect
import os
import random
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest

import contpoutine as cp
from tests.capture.law import NATIVE, Asked, Keeping, assert_law, choose

native_only = pytest.mark.skipif(not NATIVE, reason="about the C extension")


def run_script(text, *, env=None, code=0):
    """Runs a script in a process of its own; gives what it printed."""
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
    )
    assert result.returncode == code, result.stderr[-2000:]
    assert not result.stderr, result.stderr[-2000:]
    return result.stdout


def test_a_random_generator_held_by_the_model_is_its_own_in_every_branch():
    def model():
        rng = random.Random(7)
        draw = rng.random
        xs = [draw()]
        for _ in range((yield choose(0, 2))):
            xs.append(draw())
        xs.append((yield choose(0, 1)))
        xs.append(rng.randrange(10**9))
        return xs

    assert_law(model)


def test_global_random_numbers_before_a_capture_are_the_same_in_every_branch(capture):
    def model():
        x = random.random()
        a = yield choose(0, 1)
        return x, a, (yield choose(0, 1))

    random.seed(3)
    asked = cp.run(cp.handle(Keeping(), model))
    drawn = set()
    for seed in range(4):
        random.seed(seed)
        before = random.getstate()
        inner = cp.run(asked.k(0))
        drawn.add(cp.run(inner.k(seed % 2))[0])
        assert random.getstate() == before
    assert len(drawn) == 1


def test_frames_that_were_looked_at():
    def sub(looked):
        looked.append(sys._getframe().f_lineno)
        kept = sys._getframe()
        looked.append(kept.f_locals["looked"] is looked)
        del kept
        a = yield choose(0, 1)
        looked.append(len(traceback.extract_stack()) > 0)
        b = yield choose(0, 1)
        return looked, a, b, sorted(locals())

    def model():
        looked = []
        g = sub(looked)
        assert inspect.getgeneratorstate(g) == "GEN_CREATED"
        frame = g.gi_frame
        looked.append(frame.f_lineno > 0)
        del frame
        result = yield g
        looked.append(g.gi_frame is None)
        return result

    # on 3.11 and 3.12 looking at f_locals leaves a dict behind that holds the frame itself
    assert_law(model, strategies=("auto", "replay"))


def test_a_frame_kept_in_a_local_is_never_shared():
    def model():
        frame = sys._getframe()
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, frame.f_code.co_name

    assert_law(model, strategies=("auto", "replay"))


def test_frames_of_stored_continuations_can_be_looked_at(capture):
    def model():
        xs = [1]
        try:
            xs.append((yield choose(2, 3)))
        finally:
            xs.append(9)
        return xs

    asked = cp.run(cp.handle(Keeping(), model))
    if asked.k._snapshot is not None:
        body = asked.k._snapshot.frames[-1]
        # from 3.12 on, what looks finished has no frame to look at
        assert body.gi_frame is None or body.gi_frame.f_locals["xs"] == [1]
        assert body.gi_code.co_name == "model" and body.gi_yieldfrom is None
        assert not body.gi_running
        if NATIVE:
            # nobody else can run it: it looks finished
            assert list(body) == [] and not body.gi_suspended
            body.close()
            with pytest.raises(ValueError):
                body.throw(ValueError)
    assert [cp.run(asked.k(x)) for x in (2, 3, 2)] == [[1, 2, 9], [1, 3, 9], [1, 2, 9]]


@pytest.mark.parametrize("how", ["settrace", "setprofile"])
def test_capture_under_a_tracer(how):
    seen = []

    def tracer(frame, event, arg):
        if frame.f_code.co_name == "model":
            seen.append((event, frame.f_lineno, sorted(frame.f_locals)))
        return tracer

    def model():
        xs = []
        for i in range(2):
            xs.append((i, (yield choose(0, 1))))
        return xs

    before = sys.gettrace(), sys.getprofile()
    getattr(sys, how)(tracer)
    try:
        expected = assert_law(model, orders=2)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert len(expected) == 4 and seen


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_capture_under_monitoring_that_is_switched_on_and_off_between_branches():
    monitoring = sys.monitoring
    lines = []

    def model():
        xs = []
        for i in range(2):
            xs.append((i, (yield choose(0, 1))))
        return xs

    asked = cp.run(cp.handle(Keeping(), model))
    monitoring.use_tool_id(3, "test")
    try:
        monitoring.register_callback(
            3, monitoring.events.LINE, lambda code, line: lines.append(line)
        )
        monitoring.register_callback(3, monitoring.events.PY_YIELD, lambda *args: None)
        inner = cp.run(asked.k(1))
        monitoring.set_local_events(3, model.__code__, monitoring.events.LINE)
        assert cp.run(inner.k(0)) == [(0, 1), (1, 0)]
        monitoring.set_events(3, monitoring.events.LINE | monitoring.events.PY_YIELD)
        assert cp.run(cp.run(asked.k(0)).k(1)) == [(0, 0), (1, 1)]
        assert cp.run(inner.k(1)) == [(0, 1), (1, 1)]
    finally:
        monitoring.set_events(3, 0)
        monitoring.set_local_events(3, model.__code__, 0)
        monitoring.free_tool_id(3)
    assert cp.run(inner.k(0)) == [(0, 1), (1, 0)]
    assert lines


def test_a_tracer_switched_on_between_capture_and_resumption(capture):
    def model():
        xs = []
        for i in range(2):
            xs.append((i, (yield choose(0, 1))))
        return xs

    asked = cp.run(cp.handle(Keeping(), model))
    before = sys.gettrace()
    sys.settrace(lambda *args: None)
    try:
        inner = cp.run(asked.k(1))
    finally:
        sys.settrace(before)
    assert [cp.run(inner.k(b)) for b in (0, 1)] == [[(0, 1), (1, 0)], [(0, 1), (1, 1)]]
    assert cp.run(cp.run(asked.k(0)).k(0)) == [(0, 0), (1, 0)]


def test_a_cycle_through_a_suspended_frame_is_collected():
    class Canary:
        def __init__(self, log):
            self.log = log

        def __del__(self):
            self.log.append("dead")

    dead = []

    def model(box):
        me = [box]
        me.append(me)
        box.append(me)
        a = yield choose(0, 1)
        return a

    def once():
        box = [Canary(dead)]
        asked = cp.run(cp.handle(Keeping(), model), box)
        box.append(asked)
        asked.k.origin.kwargs["extra"] = asked
        return None

    once()
    gc.collect()
    assert dead == ["dead"]


def test_interpreter_shutdown_with_suspended_branches_alive():
    out = run_script(
        """
        import sys
        import contpoutine as cp
        choose = cp.operation("choose")

        class Keep(cp.Handler):
            def __init__(self):
                self.kept = []
            def on_choose(self, msg, k):
                self.kept.append(k)
                return None
                yield

        def sub():
            try:
                yield choose()
            finally:
                print("finally must not run")

        def model():
            held = sub()
            try:
                yield from sub()
            finally:
                print("finally must not run")

        keep = Keep()
        cp.run(cp.handle(keep, model))
        if cp.capabilities().native:
            keep.kept[0]._snapshot.fork(keep.kept[0].origin.outside)
            sys.modules["keep"] = keep
            cycle = [keep]
            cycle.append(cycle)
            print("end")
        else:
            import os
            print("end", flush=True)
            os._exit(0)  # without the extension, closing runs finally
        """
    )
    assert out == "end\n"


def test_a_captured_computation_moves_to_another_thread(capture):
    def model():
        xs = [threading.current_thread().name]
        try:
            xs.append((yield choose(0, 1)))
            raise ValueError
        except ValueError:
            xs.append((yield choose(0, 1)))
        xs.append(threading.current_thread().name)
        return xs[1:]

    asked = cp.run(cp.handle(Keeping(), model))
    results = []

    def work(a, b):
        results.append(((a, b), cp.run(cp.run(asked.k(a)).k(b))))

    threads = [
        threading.Thread(target=work, args=(a, b), name=f"{a}{b}") for a in "xy" for b in "uv"
    ]
    for thread in threads:
        thread.start()
        thread.join(30)
    assert sorted(results) == [((a, b), [a, b, a + b]) for a in "xy" for b in "uv"]


def test_a_thread_that_ends_leaves_its_continuations_usable(capture):
    kept = []

    def work():
        kept.append(cp.run(cp.handle(Keeping(), model)))

    def model():
        a = yield choose(0, 1)
        return a, (yield choose(0, 1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [cp.run(cp.run(kept[0].k(a)).k(1)) for a in (0, 1)] == [(0, 1), (1, 1)]


LIVE = int(os.environ.get("LIVE", "30000"))  # LIVE=1000000 is the whole hazard


@native_only
def test_many_live_continuations():
    def model():
        xs = [1, 2]
        for i in range(3):
            xs.append((yield choose(0, 1)))
        return xs

    asked = cp.run(cp.handle(Keeping(), model))
    kept = [cp.run(asked.k(i)) for i in range(LIVE)]
    for i in (0, LIVE - 1, LIVE // 2, 7, LIVE - 1):
        assert cp.run(cp.run(kept[i].k("b")).k("c")) == [1, 2, i, "b", "c"]
    del kept[::2]
    gc.collect()
    assert isinstance(cp.run(kept[-1].k(0)), Asked)


def test_weak_references_to_generators_and_functions_of_the_model():
    import weakref

    def model():
        def gen():
            yield 1

        g = gen()
        ref = weakref.ref(g)
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, ref() is g

    assert_law(model, strategies=("auto", "replay"))


def test_locks_and_files_are_refused_by_name(tmp_path):
    from tests.capture.law import assert_refused

    def with_lock():
        lock = threading.Lock()
        a = yield choose(0, 1)
        b = yield choose(0, 1)
        return a, b, lock.locked()

    path = tmp_path / "f"
    path.write_text("text")

    def with_file():
        with path.open() as file:
            a = yield choose(0, 1)
            b = yield choose(0, 1)
            return a, b, file.read()

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert_refused(with_lock, because="lock")
        assert_refused(with_file, because="TextIOWrapper")
        gc.collect()
