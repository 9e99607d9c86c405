"""What merging equal states is worth: rows whose cost follows the states, beside what peers can do.

    python -m benchmarks.merging [--quick] [--peer NAME ...] [--json FILE]

A question is a model at a size and what is asked of it; its rows are systems that answer it, each
in the way that is natural to it. No time is printed before all rows of all questions agree. The
models of contpoutine are plain generators without annotations; where a peer needs its model written
in another way to share anything (WebPPL: `Infer` nested by hand, FlipPy: functions whose calls it
caches, Pyro: `pyro.markov`), it has it written so.
"""
