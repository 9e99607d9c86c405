"""Pictures: the state graph of an enumeration that merges equal states."""

from contpoutine.viz.state_graph import StateGraphDrawing, draw_states, to_networkx

__all__ = ["StateGraphDrawing", "draw_states", "to_networkx"]
