"""n queens: one model, and handlers that decide what searching means.

The model places a queen in each row, asks where by `choose`, and says `fail` when two queens attack
each other. It does not know how it is searched. A control handler has the rest of the search in its
hand, the continuation `k`, and goes on with one column after the other: until something is found,
or through all of them, or counting what it costs.
"""

import contpoutine as cp

choose = cp.operation("choose")
fail = cp.operation("fail")


def queens(n):
    columns = []
    for row in range(n):
        column = yield choose(*range(n))
        for above, other in enumerate(columns):
            if column == other or abs(column - other) == row - above:
                yield fail()
        columns.append(column)
    return columns


class First(cp.Handler):
    """The first solution, or None. What comes after it is never run."""

    def on_choose(self, msg, k):
        for value in msg["args"]:
            found = yield k(value)
            if found is not None:
                return found
        return None

    def on_fail(self, msg, k):
        return None


class All(cp.Handler):
    """Every solution."""

    def on_choose(self, msg, k):
        found = []
        for value in msg["args"]:
            found += yield k(value)
        return found

    def on_fail(self, msg, k):
        return []

    def on_return(self, value):
        return [value]


class Tally(cp.Handler):
    """How many solutions, and how many dead ends."""

    def on_choose(self, msg, k):
        counts = yield k.each(msg["args"])
        return tuple(map(sum, zip(*counts, strict=True)))

    def on_fail(self, msg, k):
        return 0, 1

    def on_return(self, value):
        return 1, 0


def board(columns):
    n = len(columns)
    return "\n".join(" ".join("Q" if i == column else "." for i in range(n)) for column in columns)


def main():
    print(board(cp.run(cp.handle(First(), queens), 8)))
    print("four queens:", *cp.run(cp.handle(All(), queens), 4))
    for n in range(4, 8):
        solutions, dead_ends = cp.run(cp.handle(Tally(), queens), n)
        print(f"{n} queens: {solutions} solutions, {dead_ends:,} dead ends")


if __name__ == "__main__":
    main()
