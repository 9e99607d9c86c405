"""The sites of a state graph: who visits them, how often, and their values together.

A state passes its deterministic sites when it is resumed, and visits the site of its choice when it
is left by an edge. Where no execution comes to a site twice, its marginal is read off the masses of
those edges and states.

Anything else needs to know what a path has met before: which visit this is, or the value of another
site. Then items are split by that memory, in a network that covers the stretch from the first visit
that matters to the last one, and its sums are the answer.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from contpoutine.infer import sweeps
from contpoutine.infer.cycles import Cyclic, Limit
from contpoutine.infer.marginal import entry_key
from contpoutine.infer.network import Network
from contpoutine.infer.state_graph import CHOICE
from contpoutine.infer.sums import Sums

_NONE = -math.inf
Groups = list[tuple[Any, float]]  # of a value and its mass, in any order, values may repeat


@dataclass
class Visitors:
    """Where a site is visited: states whose choice it is, and (state, value) of those that pass."""

    choices: list[int] = field(default_factory=list)
    passing: list[tuple[int, Any]] = field(default_factory=list)

    def states(self) -> list[int]:
        return [*self.choices, *[state for state, _ in self.passing]]


class Visits:
    """The visits of every site of a graph, by posterior executions."""

    def __init__(self, sums: Sums) -> None:
        self.sums, self.graph, self.network = sums, sums.graph, sums.network
        self._counted: dict[str, Any] = {}
        self._numbered: dict[str, dict[int, Visitors]] = {}
        self._most: dict[str, float] = {}

    @cached_property
    def of(self) -> dict[str, Visitors]:
        """For each site that some posterior execution visits, where that is."""
        found: defaultdict[str, Visitors] = defaultdict(Visitors)
        masses, graph = self.sums.states, self.graph
        for state, site in enumerate(graph.site):
            if site is not None and masses[state] > 0.0:
                found[site].choices.append(state)
        for state, passed in graph.passed.items():
            if masses[state] > 0.0:
                for site, value in passed:
                    found[site].passing.append((state, value))
        return dict(found)

    def groups(self, visitors: Visitors) -> Groups:
        """The values that some visitors give a site, of which an execution meets one at most."""
        graph = self.graph
        edges, states = self.sums.edges, self.sums.states
        found = [(graph.value[e], edges[e]) for s in visitors.choices for e in graph.edges(s)]
        return found + [(value, states[state]) for state, value in visitors.passing]

    # --- how often ------------------------------------------------------------------------------

    def most(self, site: str) -> float:
        """How often one execution visits the site at most; with cycles, 2 is "often"."""
        if site not in self._most:
            self._most[site] = 1 if self._is_single(site) else self._count_most(site)
        return self._most[site]

    def _is_single(self, site: str) -> bool:
        """Can no path lead from one of the site's visits to another? A cheap look, for most."""
        order, visitors = self.sums.order, self.of[site]
        found = visitors.states()
        if order is None or self.network.homes is not None or len(set(found)) < len(found):
            return False
        if len(found) == 1:
            return True
        place, graph = self._place, self.graph
        last = max([place[state] for state in found])
        mine, seen, todo = set(found), set(), list(found)
        while todo:
            state = todo.pop()
            for edge in graph.edges(state):
                target = graph.target[edge]
                if target in mine:
                    return False
                if place[target] < last and target not in seen:
                    seen.add(target)
                    todo.append(target)
        return True

    @cached_property
    def _place(self) -> Sequence[int]:
        """The place of each state in the order of the sweeps."""
        order = self.sums.order
        assert order is not None
        place = array("i", [0]) * len(order)
        for i, state in enumerate(order):
            place[state] = i
        return place

    def _count_most(self, site: str) -> float:
        net, sums = self.network, self.sums
        most = [-1.0] * len(net)
        tail, second, rules = net.tail, net.second, sums.rules
        passing: defaultdict[int, int] = defaultdict(int)
        for state, _ in self.of[site].passing:
            passing[state] += 1
        order = range(len(net)) if sums.order is None else sums.order
        changed = True
        while changed:
            changed = False
            for item in order:
                for rule in net.rules(item):
                    if rules[rule] > 0.0:
                        found = 0.0
                        if tail[rule] >= 0:
                            state, edge = net.states[tail[rule]], net.edge[rule]
                            found = most[tail[rule]] + passing.get(state, 0)
                            if edge >= 0 and self.graph.site[state] == site:
                                found += 1.0
                        if second is not None and second[rule] >= 0:
                            found += most[second[rule]]
                            if most[second[rule]] < 0.0:
                                continue
                        if tail[rule] >= 0 and most[tail[rule]] < 0.0:
                            continue
                        found = found if sums.acyclic else min(found, 2.0)
                        if found > most[item]:
                            most[item] = found
                            changed = not sums.acyclic
        return most[net.goal]

    # --- by occurrence --------------------------------------------------------------------------

    def occurrence(self, site: str, occurrence: int) -> Groups:
        """The values of one visit of the site: 0 is the first of an execution, -1 the last."""
        counts = self.counts(site) if occurrence >= 0 else None
        if counts is not None:
            numbered = self._by_count(site, counts)
            return self.groups(numbered.get(occurrence, Visitors()))
        watched = self.joint([(site, occurrence)])
        return [(values[0], mass) for values, mass in watched]

    def counts(self, site: str) -> Sequence[int] | None:
        """How often the site was visited before each state, if that is one number for all paths."""
        if self.network.homes is not None or not self.sums.acyclic:
            return None
        if site not in self._counted:
            self._counted[site] = self._count_before(site)
        found: Sequence[int] | None = self._counted[site]
        return found

    def _count_before(self, site: str) -> Sequence[int] | None:
        graph, sums = self.graph, self.sums
        passing: defaultdict[int, int] = defaultdict(int)
        for state, _ in self.of[site].passing:
            passing[state] += 1
        before = array("i", [-1]) * len(graph)
        before[graph.root] = 0
        edges, target, sites = sums.edges, graph.target, graph.site
        first, count = graph.first_edge, graph.edge_count
        for state in sums.order or ():
            if state < len(graph) and before[state] >= 0:
                after = before[state] + passing.get(state, 0) + (sites[state] == site)
                for edge in range(first[state], first[state] + count[state]):
                    if edges[edge] > 0.0:
                        known = before[target[edge]]
                        if known >= 0 and known != after:
                            return None
                        before[target[edge]] = after
        return before

    def _by_count(self, site: str, before: Sequence[int]) -> dict[int, Visitors]:
        """The visitors that make the first visit of an execution, the second, and so on."""
        visitors, found = self.of[site], self._numbered.get(site)
        if found is None:
            found = self._numbered[site] = defaultdict(Visitors)
            passes: defaultdict[int, int] = defaultdict(int)
            for state, value in visitors.passing:
                found[before[state] + passes[state]].passing.append((state, value))
                passes[state] += 1
            for state in visitors.choices:
                found[before[state] + passes.get(state, 0)].choices.append(state)
        return found

    @cached_property
    def users(self) -> list[list[int]]:
        """For each item, those that have a rule which uses it."""
        net = self.network
        users: list[list[int]] = [[] for _ in range(len(net))]
        for item in range(len(net)):
            for rule in net.rules(item):
                if net.tail[rule] >= 0:
                    users[net.tail[rule]].append(item)
                if net.second is not None and net.second[rule] >= 0:
                    users[net.second[rule]].append(item)
        return users

    @cached_property
    def places(self) -> Any:
        """For each state, its items."""
        net = self.network
        if net.homes is None:
            return [(state,) for state in range(len(self.graph))]
        places: list[list[int]] = [[] for _ in range(len(self.graph))]
        for item, state in enumerate(net.states):
            if state >= 0:
                places[state].append(item)
        return places

    def joint(self, watched: Sequence[tuple[str, int]]) -> list[tuple[tuple[Any, ...], float]]:
        """The values of several visits together, of the executions that have all of them."""
        return _Split(self, watched).answer()


# --- a memory of what was met -------------------------------------------------------------------

Memory = tuple[Any, ...]  # an entry for each watched visit; see `_Watch`


@dataclass(frozen=True)
class _Found:
    key: Hashable


class _Watch:
    """One watched visit of a site, and what a path has to remember of it.

    In the sub-model that the execution starts in: how many visits there have been until the one
    that is wanted, then its value; counted from the end, the last values. In a sub-model that is
    called it is not known how many visits there were before, so there it is the values themselves,
    as many as can matter. Where it is known which states make that visit, the `visitors`, nothing
    is counted: it is the first one by them.
    """

    def __init__(self, site: str, occurrence: int, visitors: frozenset[int] | None) -> None:
        self.site, self.occurrence = site, occurrence
        self.start: Any = 0 if occurrence >= 0 else ()
        self.visitors = visitors

    def is_met_at(self, site: str, state: int) -> bool:
        """Does it count, or give, the visit of a site by a state?"""
        return site == self.site and (self.visitors is None or state in self.visitors)

    def seen(self, memory: Any, key: Hashable) -> Any:
        if isinstance(memory, _Found):
            return memory
        if self.occurrence < 0:
            return (*memory, key)[self.occurrence :]
        return _Found(key) if memory == self.occurrence else memory + 1

    def noted(self, memory: tuple[Hashable, ...], key: Hashable) -> tuple[Hashable, ...]:
        """In a sub-model that is called."""
        memory = (*memory, key)
        return memory[: self.occurrence + 1] if self.occurrence >= 0 else memory[self.occurrence :]

    def key(self, memory: Any) -> _Found | None:
        """The value that is wanted, or None: there was no such visit."""
        if self.occurrence < 0:
            return _Found(memory[0]) if len(memory) == -self.occurrence else None
        return memory if isinstance(memory, _Found) else None


class _Split:
    """The network whose items are pairs of an item and a memory."""

    def __init__(self, visits: Visits, watched: Sequence[tuple[str, int]]) -> None:
        self.visits, self.sums = visits, visits.sums
        self.graph, self.network = visits.graph, visits.network
        self.watches = [self._watch(site, occurrence) for site, occurrence in watched]
        self.sites = {watch.site for watch in self.watches}
        self.nothing: Memory = tuple([watch.start for watch in self.watches])
        self.unnoted: Memory = tuple([() for _ in self.watches])
        self.values: dict[Hashable, Any] = {}
        self.items: list[dict[Memory, int]] = [{} for _ in range(len(self.network))]
        self.rules: list[list[tuple[int, int, float]]] = []
        self.ends: dict[Memory, int] = {}

    def _watch(self, site: str, occurrence: int) -> _Watch:
        visitors = self.visits.of[site]
        counts = self.visits.counts(site) if occurrence >= 0 and not visitors.passing else None
        if counts is None:
            return _Watch(site, occurrence, None)
        return _Watch(site, 0, frozenset([s for s in visitors.choices if counts[s] == occurrence]))

    # A path that has met nothing yet needs no item of its own: its weight is that of the item. And
    # in a graph without calls, what comes after all is found is known as well: what goes through.

    @cached_property
    def touched(self) -> bytearray:
        """The items to which some path leads by way of a watched visit."""
        visits = self.visits
        users, places = visits.users, visits.places
        touched = bytearray(len(self.network))
        todo = []
        for watch in self.watches:
            for state in watch.visitors or visits.of[watch.site].states():
                for place in places[state]:
                    for item in users[place]:
                        if not touched[item]:
                            touched[item] = 1
                            todo.append(item)
        while todo:
            for item in users[todo.pop()]:
                if not touched[item]:
                    touched[item] = 1
                    todo.append(item)
        return touched

    def answer(self) -> list[tuple[tuple[Any, ...], float]]:
        self._split()
        weights = self._weights()
        total = self.sums.log_evidence
        found = []
        for memory, item in self.ends.items():
            keys = [watch.key(m) for watch, m in zip(self.watches, memory, strict=True)]
            if all(key is not None for key in keys) and weights[item] > _NONE:
                values = tuple([self.values[key.key] for key in keys if key is not None])
                found.append((values, math.exp(weights[item] - total)))
        return found

    def _split(self) -> None:
        """Find the memories of each item, and make the items and rules of the split network."""
        net, sums, touched = self.network, self.sums, self.touched
        if not touched[net.goal]:
            return
        order = range(len(net)) if sums.order is None else sums.order
        live = [item for item in order if touched[item] and sums.items[item] > 0.0]
        if sums.order is None:  # memories come round: until there are no more of them
            users, mine = self.visits.users, set(live)
            todo = dict.fromkeys(live)
            while todo:
                item, _ = todo.popitem()
                known = len(self.items[item])
                for memory, *_ in self._combined(item):
                    if not self._is_over(item, memory):
                        self._split_item(item, memory)
                if len(self.items[item]) > known:
                    todo.update(dict.fromkeys(mine.intersection(users[item])))
        for item in live:
            for memory, tail, second, weight in self._combined(item):
                self._rule(item, memory, tail, second, weight)

    def _combined(self, item: int) -> list[tuple[Memory, int, int, float]]:
        """The memories that an item's rules lead to, each with the split rule."""
        net, sums = self.network, self.sums
        found = []
        for rule in net.rules(item):
            if sums.rules[rule] > 0.0:
                inner = -1 if net.second is None else net.second[rule]
                for before, tail, gained in self._of(net.tail[rule]):
                    for inside, second, more in self._of(inner):
                        memory = self._next(item, rule, before, inside)
                        weight = net.coefficient[rule] + gained + more
                        found.append((memory, tail, second, weight))
        return found

    def _of(self, item: int) -> list[tuple[Memory, int, float]]:
        """The memories of an item that a rule uses, each with its split item or its weight."""
        if item < 0:
            return [(self.unnoted, -1, 0.0)]
        if not self.touched[item]:
            weight = self.sums.inside[item]
            return [(self._start(item), -1, weight)] if weight > _NONE else []
        return [(memory, found, 0.0) for memory, found in self.items[item].items()]

    def _is_outer(self, item: int) -> bool:
        """Does the item belong to the sub-model that the execution starts in, and to no call?"""
        net = self.network
        if net.homes is None or item == net.goal:
            return True
        return net.homes[item] == self.graph.root and not self._is_root_called

    @cached_property
    def _is_root_called(self) -> bool:
        return self.graph.root in set(self.graph.callee)

    def _start(self, item: int) -> Memory:
        return self.nothing if self._is_outer(item) else self.unnoted

    def _next(self, item: int, rule: int, before: Memory, inside: Memory) -> Memory:
        """The memory after a rule: of its tail, what that state passes, a call, a choice."""
        net, graph = self.network, self.graph
        if net.tail[rule] < 0:
            return self._start(item)
        state, edge = net.states[net.tail[rule]], net.edge[rule]
        events = [(site, entry_key(value), value) for site, value in self._passed(state)]
        if edge >= 0 and graph.kind[state] == CHOICE and graph.site[state] in self.sites:
            value = graph.value[edge]
            events.append((graph.site[state] or "", entry_key(value), value))
        outer = self._is_outer(net.tail[rule])
        found = []
        for watch, memory, called in zip(self.watches, before, inside, strict=True):
            add = watch.seen if outer else watch.noted
            for site, key, value in events:
                if watch.is_met_at(site, state):
                    self.values.setdefault(key, value)
                    memory = add(memory, key)
            for key in called:
                memory = add(memory, key)
            found.append(memory)
        if item == net.goal and not outer:  # the start is called as well: now it is known to be it
            found = [self._replayed(w, m) for w, m in zip(self.watches, found, strict=True)]
        return tuple(found)

    def _replayed(self, watch: _Watch, noted: Any) -> Any:
        memory = watch.start
        for key in noted:
            memory = watch.seen(memory, key)
        return memory

    def _passed(self, state: int) -> list[tuple[str, Any]]:
        return [pair for pair in self.graph.passed.get(state, ()) if pair[0] in self.sites]

    def _is_over(self, item: int, memory: Memory) -> bool:
        """Is there nothing left to remember?"""
        if item == self.network.goal:
            return True
        found = all(isinstance(m, _Found) for m in memory)
        return found and self.network.homes is None

    def _split_item(self, item: int, memory: Memory) -> int:
        known = self.items[item]
        if memory not in known:
            known[memory] = len(self.rules)
            self.rules.append([])
        return known[memory]

    def _rule(self, item: int, memory: Memory, tail: int, second: int, weight: float) -> None:
        if not self._is_over(item, memory):
            self.rules[self._split_item(item, memory)].append((tail, second, weight))
            return
        if item != self.network.goal:  # what goes through the item, whatever led to it
            sums = self.sums
            weight += math.log(sums.items[item]) - sums.inside[item] + sums.log_evidence
        self.rules[self._end(memory)].append((tail, second, weight))

    def _end(self, memory: Memory) -> int:
        if memory not in self.ends:
            self.ends[memory] = len(self.rules)
            self.rules.append([])
        return self.ends[memory]

    def _weights(self) -> Sequence[float]:
        first = array("i", [0])
        columns: tuple[array[Any], ...] = array("i"), array("i"), array("d")
        for rules in self.rules:
            for rule in rules:
                for column, x in zip(columns, rule, strict=True):
                    column.append(x)
            first.append(len(columns[0]))
        tail, second, coefficient = columns
        split = Network(
            first=first,
            tail=tail,
            second=None if self.network.second is None else second,
            coefficient=coefficient,
            edge=array("i", [-1]) * len(tail),
            goal=0,
            states=range(len(self.rules)),
            entries={},
            homes=None,
        )
        order = sweeps.order(split)
        if order is not None:
            return sweeps.inside(split, order, coefficient)
        limit = Limit(self.sums.tolerance)
        return Cyclic(split, list(self.ends.values())).inside(coefficient, limit)
