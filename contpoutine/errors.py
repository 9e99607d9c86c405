"""Every exception of the library, one family.

A message says what happened, where (site, model, file and line) and what to write instead. Code
that raises one of these builds the sentence itself; the classes only give it a name that a caller
can catch. `ContpoutineError` catches them all; each also derives from the built-in exception that
Python itself would have raised for the same kind of mistake.
"""

from __future__ import annotations


class ContpoutineError(Exception):
    """Base class of every error that this library raises on purpose."""


# --- writing models -------------------------------------------------------------------------


class NotAModelError(ContpoutineError, TypeError):
    """What was given as a model is no generator function, so it cannot yield effects."""


class UnperformedEffectError(ContpoutineError, TypeError):
    """An effect request was built and never yielded, or was used as if it were its value."""


class UnperformedEffectWarning(UserWarning):
    """An effect request was dropped unperformed where no running model could be blamed."""


class BadYieldError(ContpoutineError, TypeError):
    """A model yielded an object that is no effect, no generator and no control request."""


class UnhandledEffectError(ContpoutineError, LookupError):
    """An effect reached the end of the handler stack, and it has no default."""


class DuplicateSiteError(ContpoutineError, ValueError):
    """Two sites of one name where the name must be unique, such as in a recorded trace."""


class HandlerStackError(ContpoutineError, RuntimeError):
    """A handler was left in another order than it was entered."""


class TraceMismatchError(ContpoutineError, RuntimeError):
    """A trace to be replayed holds something else at a site than the model needs there."""


class EmptyQueueError(ContpoutineError, RuntimeError):
    """`poutine.queue` was to take a partial execution from a queue that has none."""


class UnmetNameWarning(UserWarning):
    """A handler was given a name that no site has had."""


class InterventionWarning(RuntimeWarning):
    """Two handlers replace the value of one site."""


class NotSupportedError(ContpoutineError, NotImplementedError):
    """Something of Pyro's that has no meaning for continuations, or is not there."""


class PlateError(ContpoutineError, ValueError):
    """Plates whose names or dimensions collide, or whose sizes do not fit together."""


class ShapeError(ContpoutineError, ValueError):
    """Shapes that do not broadcast: of a distribution, its value and the plates around it."""


class MaxTriesError(ContpoutineError, RuntimeError):
    """`poutine.queue` tried `max_tries` partial executions, and none came to its end."""


class OverruledError(ContpoutineError, RuntimeError):
    """A handler further out decided a value that `poutine.queue` or `EnumELBO` has to choose."""


class ClauseError(ContpoutineError, TypeError):
    """A clause of a control handler does not take the arguments that clauses are given."""


class LiftError(ContpoutineError, TypeError):
    """An ordinary function cannot be rewritten as a generator.

    Attributes:
        notes: each place that stands in the way, with file and line, and why.
    """

    notes: tuple[str, ...] = ()


# --- continuations --------------------------------------------------------------------------


class BarrierError(ContpoutineError, RuntimeError):
    """A continuation would have to reach through a Python call that cannot be captured."""


class DepthError(ContpoutineError, RecursionError):
    """An ordinary function that is run as a model calls itself deeper than Python allows."""


class GreenletError(ContpoutineError, RuntimeError):
    """An ordinary function cannot be suspended or resumed where that was asked for."""


class LateImportError(ContpoutineError, RuntimeError):
    """A model has imported the library that it is written for while it was running."""


class HandlerStateError(ContpoutineError, RuntimeError):
    """A handler from outside is entered by a branch with the state that another one left in it."""


class FinishedError(ContpoutineError, RuntimeError):
    """A computation was resumed that has already returned, raised or been moved elsewhere."""


class CaptureError(ContpoutineError, TypeError):
    """A suspended computation holds something that the clone strategy cannot copy.

    Attributes:
        place: what holds it, such as "local 'file'"; None where no frame is to blame.
        function, filename, line: the frame that holds it, and where that frame waits.
        reason: what cannot be copied, and why.
    """

    place: str | None = None
    function: str | None = None
    filename: str | None = None
    line: int | None = None
    reason: str | None = None


class SharedIteratorError(CaptureError):
    """A model advances an iterator that it was given, so it could not be resumed twice."""


class ReplayDiverged(ContpoutineError, RuntimeError):
    """A replayed model asked for something else than it did the first time.

    Attributes:
        expected: the site (type and name) that the first run asked for at this point.
        got: what the second run asked for.
        where: file and line of the request in the second run.
    """

    def __init__(self, expected: str, got: str, where: str) -> None:
        self.expected, self.got, self.where = expected, got, where
        super().__init__(
            f"the model is not deterministic given its answers: replaying it, the run asked for "
            f"{got} at {where}, where the first run asked for {expected}. Something that is no "
            f"recorded site differs between the two runs (an unnamed random number, a set of "
            f"strings, an object changed outside the model). Draw it with "
            f"`x = yield sample(...)`, or make it the same on every run."
        )


# --- distributions and inference ------------------------------------------------------------


class DistributionError(ContpoutineError, ValueError):
    """A distribution's parameters do not describe a distribution."""


class NotEnumerableError(ContpoutineError, TypeError):
    """Enumeration met a site whose distribution has no finite support."""


class EmptySupportError(ContpoutineError, ValueError):
    """A finite distribution was given no value with positive probability."""


class OutsideSupportError(ContpoutineError, ValueError):
    """An observed value lies outside the support of its distribution."""


class SymbolicValueError(ContpoutineError, TypeError):
    """A value that `poutine.delayed` keeps symbolic was used where its number is needed."""


class SymbolicAttributeError(SymbolicValueError, AttributeError):
    """An attribute or a method of a number was asked of a value that is kept symbolic."""


class BadWeightError(ContpoutineError, ValueError):
    """A weight is NaN or plus infinity, so no posterior can be computed from it."""


class UnboundedWeightError(ContpoutineError, ValueError):
    """The weights of a program that loops add up without bound, so it has no posterior."""


class SecondDerivativeError(ContpoutineError, RuntimeError):
    """A second derivative of a log-evidence that can be differentiated once."""


class ZeroEvidenceError(ContpoutineError, ValueError):
    """Every execution has weight zero, so there is nothing to normalise."""


class UnknownSiteError(ContpoutineError, KeyError):
    """A question about a site that no execution visited."""

    def __str__(self) -> str:  # KeyError shows the repr of its argument: quotes around a sentence
        return str(self.args[0]) if self.args else ""


class AmbiguousSiteError(ContpoutineError, ValueError):
    """A question about a site that occurs more than once in one execution."""


class GuideMismatchError(ContpoutineError, ValueError):
    """A guide does not draw what its model leaves unobserved."""


class CircularQueryError(ContpoutineError, RecursionError):
    """A query inside of a model asks itself, with the same arguments."""


class BudgetError(ContpoutineError, ValueError):
    """A budget that makes no sense, such as a negative number of executions."""


# --- parameters -----------------------------------------------------------------------------


class ParamError(ContpoutineError, ValueError):
    """A parameter's value is outside its constraint, or no tensor that could be learned."""


class ParamMismatchError(ContpoutineError, ValueError):
    """A parameter or a state belongs to another model than the one that asks for it."""


class UnknownParamError(ContpoutineError, KeyError):
    """A parameter was read that is not in the store, and no initial value was given."""

    __str__ = UnknownSiteError.__str__


# --- the surroundings -----------------------------------------------------------------------


class MissingDependencyError(ContpoutineError, ImportError):
    """Something optional was asked for that needs a package which is not installed."""
