"""State graphs to test on, drawn at random or by hand, and every path through one."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from contpoutine.infer.state_graph import CALL, CHOICE, FRONTIER, PRUNED, RETURN, StateGraph

SITES = "x", "y", "z"
VALUES = 0, 1, True, "u"


@dataclass
class Run:
    """One execution, or where it got stuck: its choices, edges and states, and its log-weights."""

    choices: list
    edges: list
    states: list
    log_weight: float
    log_prior: float
    outcome: object
    end: int


def runs(graph: StateGraph, start: int, deepest: int = 10**9):
    """Every path from `start` to where its sub-model ends, by plain recursion."""
    kind, here = graph.kind[start], graph.weight[start]
    passed = list(graph.passed.get(start, ()))
    if kind in (RETURN, FRONTIER, PRUNED):
        yield Run(
            passed, [], [start], here if kind == RETURN else 0.0, 0.0, graph.outcome[start], kind
        )
        return
    if deepest == 0:
        return
    if kind == CHOICE:
        for e in graph.edges(start):
            for rest in runs(graph, graph.target[e], deepest - 1):
                weight = graph.log_weight[e]
                yield Run(
                    [*passed, (graph.site[start], graph.value[e]), *rest.choices],
                    [e, *rest.edges],
                    [start, *rest.states],
                    here + weight + rest.log_weight,
                    weight + rest.log_prior,
                    rest.outcome,
                    rest.end,
                )
        return
    for inner in runs(graph, graph.callee[start], deepest - 1):
        if inner.end != RETURN:
            yield Run(
                [*passed, *inner.choices],
                inner.edges,
                [start, *inner.states],
                here + inner.log_weight,
                inner.log_prior,
                None,
                inner.end,
            )
            continue
        for e in graph.edges(start):
            if graph.value[e] is inner.outcome:
                left = deepest - 1 - len(inner.edges)
                for rest in runs(graph, graph.target[e], left) if left >= 0 else ():
                    yield Run(
                        [*passed, *inner.choices, *rest.choices],
                        [*inner.edges, e, *rest.edges],
                        [start, *inner.states, *rest.states],
                        here + inner.log_weight + rest.log_weight,
                        inner.log_prior + rest.log_prior,
                        rest.outcome,
                        rest.end,
                    )


def finished(graph: StateGraph, deepest: int = 10**9) -> list[Run]:
    return [run for run in runs(graph, graph.root, deepest) if run.end == RETURN]


def can_return(graph: StateGraph, start: int) -> list:
    """The distinct objects that the sub-model which starts there can return."""
    found, seen, todo = {}, {start}, [start]
    while todo:
        state = todo.pop()
        if graph.kind[state] == RETURN:
            found[id(graph.outcome[state])] = graph.outcome[state]
        for e in list(graph.edges(state)):
            if graph.target[e] not in seen:
                seen.add(graph.target[e])
                todo.append(graph.target[e])
    return list(found.values())


def drawn(seed: int, states: int, *, calls: bool, partial: bool = False) -> StateGraph:
    """A graph without cycles. Its states lead to earlier ones only, and any state can be called."""
    rng = random.Random(seed)
    graph = StateGraph()
    graph.passed = {}
    for value in VALUES[: rng.randint(1, 4)]:
        graph.returns(value, weight=rng.uniform(-3, 0.5))
    for _ in range(rng.randint(0, 1)):
        graph.prune()
    for _ in range(rng.randint(1, 2) if partial else 0):
        graph.state()
    while len(graph) < states:
        weight = rng.choice([0.0, rng.uniform(-3, 0.5)])
        if calls and rng.random() < 0.35:
            callee = rng.randrange(len(graph))
            state = graph.call(callee, weight=weight)
            for value in can_return(graph, callee):
                graph.answer(state, value, rng.randrange(state))
            graph.lay_out()
        else:
            now = len(graph)
            values = rng.sample(VALUES, rng.randint(1, 3))
            parts = [rng.random() + 0.05 for _ in values]
            edges = [
                (value, math.log(part / sum(parts)), rng.randrange(max(0, now - 6), now))
                for value, part in zip(values, parts)
            ]
            state = graph.choice(rng.choice(SITES), edges, weight=weight)
        if rng.random() < 0.3:
            count = rng.randint(1, 2)
            graph.passed[state] = tuple(
                (rng.choice("xyd"), rng.choice(VALUES)) for _ in range(count)
            )
    graph.root = len(graph) - 1
    return graph


def drawn_with_cycles(seed: int, states: int, *, calls: bool) -> StateGraph:
    """The same with edges that lead back, taken so rarely that paths die out soon."""
    rng = random.Random(seed + 1)
    graph = drawn(seed, states, calls=calls)
    for state in range(len(graph)):
        edges = list(graph.edges(state))
        if graph.kind[state] == CHOICE:
            for e in edges:
                graph.log_weight[e] += math.log(0.5)
            if rng.random() < 0.5:
                e = rng.choice(edges)
                graph.target[e] = rng.randrange(len(graph))
                graph.log_weight[e] = math.log(0.04)
        elif graph.kind[state] == CALL and edges and rng.random() < 0.3:
            graph.target[rng.choice(edges)] = rng.randrange(len(graph))
            graph.weight[state] -= 3.0
    complete_calls(graph)
    return graph


def complete_calls(graph: StateGraph) -> None:
    """Let every call go on for each value that its callee can return now, and for no other."""
    calls = [state for state in range(len(graph)) if graph.kind[state] == CALL]
    known = {(s, id(graph.value[e])): graph.target[e] for s in calls for e in graph.edges(s)}
    for call in calls:
        graph._returned[call], graph.edge_count[call] = [], 0
    grew = True
    while grew:
        grew = False
        for call in calls:
            answers = can_return(graph, graph.callee[call])
            if len(answers) > graph.edge_count[call]:
                grew = True
                graph._returned[call] = [(v, known.get((call, id(v)), 0)) for v in answers]
                graph.lay_out()


def ruin(n: int, p: float, start: int) -> tuple[StateGraph, list[int]]:
    """Gambler's ruin: from `start` one up with probability p, one down otherwise, until 0 or n."""
    graph = StateGraph()
    states = [graph.state() for _ in range(n + 1)]
    graph.returns(False, state=states[0])
    graph.returns(True, state=states[n])
    for i in range(1, n):
        up, down = (True, math.log(p), states[i + 1]), (False, math.log1p(-p), states[i - 1])
        graph.choice("up", [up, down], state=states[i])
    graph.root = states[start]
    return graph, states


def branching(p: float, cost: float = 0.0) -> StateGraph:
    """A sub-model that calls itself twice with probability p; `cost` is the weight of a leaf."""
    graph = StateGraph()
    root, left, right = graph.state(), graph.state(), graph.state()
    leaf, after = graph.returns(None, weight=cost), graph.returns(None)
    graph.choice("split", [(True, math.log(p), left), (False, math.log1p(-p), leaf)], state=root)
    graph.call(root, state=left)
    graph.call(root, state=right)
    graph.answer(left, None, right)
    graph.answer(right, None, after)
    graph.root = root
    return graph.lay_out()


def hidden_markov(steps: int, *, names: bool = True) -> StateGraph:
    """The model of `markov_answers`, merged by hand: a state is (step, value)."""
    graph = StateGraph()
    states = {(t, z): graph.state() for t in range(steps) for z in range(-1 if t == 0 else 0, 3)}
    last = [graph.state() for _ in range(3)]
    for (t, z), state in states.items():
        if (z == -1) != (t == 0):
            continue
        row = FIRST if t == 0 else NEXT[z]
        targets = last if t + 1 == steps else [states[t + 1, k] for k in range(3)]
        edges = [(k, math.log(row[k]), targets[k]) for k in range(3)]
        weight = 0.0 if t == 0 else math.log(SEEN[z][DATA[(t - 1) % len(DATA)]])
        graph.choice(f"z{t}" if names else "z", edges, weight=weight, state=state)
    for z, state in enumerate(last):
        graph.returns(z, weight=math.log(SEEN[z][DATA[(steps - 1) % len(DATA)]]), state=state)
    graph.root = states[0, -1]
    return graph


FIRST = 0.5, 0.3, 0.2
NEXT = (0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.3, 0.3, 0.4)
SEEN = (0.8, 0.1, 0.1), (0.2, 0.6, 0.2), (0.1, 0.3, 0.6)
DATA = 0, 1, 2, 2, 0, 1, 1, 0, 2, 1


def markov_answers(steps: int):
    """Forward-backward in torch: log-evidence, marginals (steps, 3), pairs (steps - 1, 3, 3)."""
    import torch

    first, following, seen = (
        torch.tensor(x, dtype=torch.float64).log() for x in (FIRST, NEXT, SEEN)
    )
    emitted = torch.stack([seen[:, DATA[t % len(DATA)]] for t in range(steps)])
    forward = [first + emitted[0]]
    for t in range(1, steps):
        forward.append(torch.logsumexp(forward[-1][:, None] + following, 0) + emitted[t])
    backward = [torch.zeros(3, dtype=torch.float64)]
    for t in range(steps - 1, 0, -1):
        backward.append(torch.logsumexp(following + emitted[t] + backward[-1], 1))
    backward.reverse()
    evidence = torch.logsumexp(forward[-1], 0)
    single = torch.stack(forward) + torch.stack(backward) - evidence
    pairs = [
        forward[t][:, None] + following + emitted[t + 1] + backward[t + 1] - evidence
        for t in range(steps - 1)
    ]
    return float(evidence), single.exp(), torch.stack(pairs).exp() if pairs else None
