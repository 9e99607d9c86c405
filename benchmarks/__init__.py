"""One model, several systems, one run: what exact enumeration costs, side by side.

    python -m benchmarks [--quick] [--peer NAME ...] [--model NAME ...] [--json FILE]

A *room* in `systems/` knows one system; a file in `models/` holds one model as each system would
have it. No time is printed before all systems have given the same posterior. The unit of cost is
the *branch*: one value given to one visit of a choice, one edge of the execution tree.
"""
