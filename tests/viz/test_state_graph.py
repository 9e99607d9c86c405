"""Pictures of state graphs: what is in them, that nothing overlaps, and that files can be read."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contpoutine import viz
from contpoutine.errors import MissingDependencyError
from contpoutine.infer.posterior import Posterior
from contpoutine.infer.state_graph import StateGraph, Where
from contpoutine.viz.layout import layout
from tests.graphs.drawn import branching, drawn, drawn_with_cycles, hidden_markov, ruin

SVG = "{http://www.w3.org/2000/svg}"


def posterior(graph) -> Posterior:
    return Posterior(graph, complete=True, likelihood_bounded=True, branches=1)


def markov(steps=5) -> Posterior:
    graph = hidden_markov(steps)
    graph.where = {
        graph.target[e]: Where("z = yield sample(f'z{t}', step[z])", (("t", int(site[1:])),))
        for s, site in enumerate(graph.site)
        if site
        for e in graph.edges(s)
    }
    return posterior(graph)


def texts(drawing) -> list[str]:
    root = ElementTree.fromstring(drawing.svg())
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_a_hidden_markov_model_shows_lines_values_and_probabilities() -> None:
    p = markov()
    shown = texts(viz.draw_states(p))
    assert shown.count("z = yield sample(f'z{t}', step[z])") == 13
    assert {"returns 0", "returns 1", "returns 2"} <= set(shown)
    assert {"z2=0, t=3", "z2=1, t=3", "z2=2, t=3", "t=0"} <= set(shown)
    last = p.marginal("z4")
    assert f"p = {last[0]:.4f}" in shown
    pair = p.joint("z0", "z1")
    assert any(text == f"1: {pair[0, 1]:.4f}" for text in shown)
    assert len([text for text in shown if ": " in text]) == 3 + 4 * 9


def boxes_overlap(placed) -> bool:
    for layer in placed.layers:
        for a, b in itertools.pairwise(layer):
            left, right = placed.nodes[a], placed.nodes[b]
            if left.x + left.width / 2 > right.x - right.width / 2 + 1e-6:
                return True
    heights = [[placed.nodes[i] for i in layer] for layer in placed.layers]
    return any(
        max(n.y + n.height / 2 for n in upper) > min(n.y - n.height / 2 for n in lower)
        for upper, lower in itertools.pairwise(heights)
    )


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 25), st.booleans(), st.booleans())
def test_nothing_overlaps_and_everything_is_inside(seed, states, calls, loops) -> None:
    graph = (drawn_with_cycles if loops else drawn)(seed, states, calls=calls)
    drawing = viz.draw_states(posterior(graph))
    placed = layout(drawing.picture)
    assert not boxes_overlap(placed)
    for node in placed.nodes:
        assert node.x - node.width / 2 > -1e-6 and node.x + node.width / 2 < placed.width + 1e-6
        assert node.y - node.height / 2 > -1e-6 and node.y + node.height / 2 < placed.height + 1e-6
    for route in placed.routes:
        arrow = drawing.picture.arrows[route.arrow]
        ends = [arrow.source, arrow.target]
        assert [route.nodes[0], route.nodes[-1]] == (ends[::-1] if route.back else ends)
        layers = [placed.nodes[i].layer for i in route.nodes]
        assert route.is_loop or layers == list(range(layers[0], layers[-1] + 1))
    ElementTree.fromstring(drawing.svg())


def test_labels_at_one_box_do_not_overlap() -> None:
    from contpoutine.viz.layout import LABEL_CHARACTER
    from contpoutine.viz.svg import label_place

    for p in (markov(), posterior(ruin(6, 0.4, 3)[0]), posterior(branching(0.3))):
        picture = viz.draw_states(p).picture
        placed = layout(picture)
        rectangles = []
        for route in placed.routes:
            label = picture.arrows[route.arrow].label
            if label:
                x, y = label_place(route, placed)
                half = len(label) * LABEL_CHARACTER / 2
                rectangles.append((x - half, x + half, y - 6, y + 6))
        for a, b in itertools.combinations(rectangles, 2):
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]


def test_large_graphs_show_the_most_probable_states_and_how_many_are_left() -> None:
    drawing = viz.draw_states(markov(40), max_states=10)
    assert len(drawing.picture.boxes) == 10
    assert "and 111 more states, each less probable" in texts(drawing)
    assert drawing.picture.boxes[0].state == markov(40).graph.root
    with pytest.raises(ValueError, match="at least 1"):
        viz.draw_states(markov(), max_states=0)


def test_what_is_not_explored_or_weighs_nothing_is_shown_as_that() -> None:
    graph = StateGraph()
    cut, zero, done = graph.state(), graph.prune(), graph.returns(float("nan"))
    edges = [(i, math.log(0.3), s) for i, s in enumerate((cut, zero, done))]
    graph.root = graph.choice('<x> & "y"', edges)
    drawing = viz.draw_states(posterior(graph))
    shown = texts(drawing)
    assert {"not explored", "weight zero", "returns nan", '<x> & "y"'} <= set(shown)
    assert drawing.svg().count("stroke-dasharray") == 2
    impossible = StateGraph()
    impossible.root = impossible.choice("x", [(0, 0.0, impossible.prune())])
    assert "weight zero" in texts(viz.draw_states(posterior(impossible)))


def test_long_lines_and_many_values_are_cut() -> None:
    graph = StateGraph()
    graph.root = graph.choice("x", [("v" * 99, 0.0, graph.returns("r" * 99))])
    live = tuple((f"name{i}", "w" * 50) for i in range(9))
    graph.where = {graph.root: Where("l" * 99, live)}
    assert all(len(text) <= 40 for text in texts(viz.draw_states(posterior(graph))))
    assert any("and 3 more" in text for text in texts(viz.draw_states(posterior(graph))))


def test_files_of_our_own_making(tmp_path) -> None:
    drawing = viz.draw_states(markov())
    assert drawing._repr_svg_() == drawing.svg() and "16 states" in repr(drawing)
    svg = drawing.save(tmp_path / "hmm.svg", engine="contpoutine")
    ElementTree.parse(svg)
    png = drawing.save(str(tmp_path / "hmm.png"), engine="contpoutine").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 10_000
    dot = drawing.save(tmp_path / "hmm.dot").read_text()
    assert dot.startswith("digraph") and dot.count(" -> ") == 39
    with pytest.raises(ValueError, match="engine"):
        drawing.save(tmp_path / "hmm.svg", engine="neato")


def test_graphviz_draws_where_it_is_installed(tmp_path, monkeypatch) -> None:
    graph = StateGraph()
    graph.root = graph.choice('a "b" \\n {|}', [("\\N", 0.0, graph.returns("x\\"))])
    drawing = viz.draw_states(posterior(graph))
    assert r"a \"b\" \\n {|}" in drawing.dot()
    if shutil.which("dot"):
        ElementTree.parse(drawing.save(tmp_path / "a.svg", engine="graphviz"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert drawing.save(tmp_path / "b.svg").read_text() == drawing.svg()
    with pytest.raises(MissingDependencyError, match="graphviz"):
        drawing.save(tmp_path / "c.svg", engine="graphviz")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        drawing.save(tmp_path / "c.png")


def test_networkx_has_the_states_edges_and_probabilities(monkeypatch) -> None:
    p = markov()
    found = viz.to_networkx(p)
    assert found.graph["log_evidence"] == p.log_evidence
    assert found.number_of_nodes() == len(p.graph) and found.number_of_edges() == 39
    last = [d for _, d in found.nodes(data=True) if d["kind"] == "return" and d["outcome"] == 1]
    assert last[0]["probability"] == pytest.approx(p.marginal()[1])
    root = found.out_edges(found.graph["root"], data=True)
    assert sum(d["probability"] for *_, d in root) == pytest.approx(1.0)
    assert last[0]["live"] == {"t": 4} and last[0]["line"].startswith("z = yield")
    calls = viz.to_networkx(posterior(branching(0.3)))
    assert sum(1 for *_, d in calls.edges(data=True) if d.get("call")) == 2
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(MissingDependencyError, match="pip install networkx"):
        viz.to_networkx(p)


def test_a_tree_has_no_graph_to_draw() -> None:
    import contpoutine as cp

    def flip():
        return (yield cp.sample("x", cp.distributions.Flip(0.5)))

    with pytest.raises(AttributeError, match="merge=True"):
        cp.viz.draw_states(cp.infer.enumerate(flip)())
