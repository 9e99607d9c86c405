"""Delayed sampling: what a model draws is kept symbolic for as long as its distribution can be
carried along in closed form, after Murray et al., "Delayed Sampling and Automatic
Rao-Blackwellization of Probabilistic Programs" (AISTATS 2018).

`symbol` is what the model holds in place of a number, `gaussian` and `conjugate` are the closed
forms, `beliefs` is everything that is known at one point of an execution, and `delayed_messenger`
is the handler. Beliefs are immutable, so that a fork of an execution costs nothing here.
"""
