/* native.h: what the C files of contpoutine._native share with each other.

   message.c   the request that a model yields
   outside.c   which objects a computation did not make
   clone.c     a second copy of a suspended computation
   state_key.c what a suspended computation will do, as bytes
   itertools.c iterators that own memory of their own
   explorer.c  the inner loop of enumeration
   returns.c   what frames in the same state have returned before
   merged.c    the same where equal states are one
   bridge.c    sample, as an ordinary function calls it
   tally.c     the histogram of return values
   sweeps.c    sums over the network of a state graph
   randomness.c  the state of a random number generator, as bytes
   module.c    the names that Python sees */

#ifndef CONTPOUTINE_NATIVE_H
#define CONTPOUTINE_NATIVE_H

#include "compat.h"

/* --- errors and settings (module.c) ------------------------------------------------------- */

extern PyObject *err_capture;      /* contpoutine.errors.CaptureError */
extern PyObject *err_empty_support; /* contpoutine.errors.EmptySupportError */
extern PyObject *err_unperformed;  /* contpoutine.errors.UnperformedEffectError */
extern PyObject *warn_unperformed; /* contpoutine.errors.UnperformedEffectWarning */

/* --- messages (message.c) ----------------------------------------------------------------- */

enum {
    F_TYPE, F_NAME, F_FN, F_VALUE, F_IS_OBSERVED, F_ARGS, F_KWARGS, F_INFER, F_DONE, F_STOP,
    F_SCALE, F_MASK, F_CONTINUATION, F_COND_INDEP_STACK, N_FIELDS
};

typedef struct {
    PyObject_HEAD
    PyObject *field[N_FIELDS]; /* NULL means the default */
    PyObject *extra;           /* dict of keys that handlers added, or NULL */
    PyCodeObject *birth_code;  /* where the request was written */
    int birth_lasti;
    char performed;            /* yielded to a machine, or made by one */
    char lent;                 /* in the hands of a clause, which may yield it again */
} Message;

extern PyTypeObject MessageType;
extern PyTypeObject PerformType;
extern PyObject *str_sample;

#define Message_CheckExact(o) Py_IS_TYPE(o, &MessageType)

int message_ready(PyObject *module);
PyObject *message_copy(Message *msg);
/* sample(name, fn, *args, obs=None, infer=None, **kwargs): a vectorcall. */
PyObject *message_sample(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *perform_copy(PyObject *self, PyObject *msg);
PyObject *perform_message(PyObject *self);

/* The error left by a request that died unperformed on this thread, or 0. Raises it if set. */
int message_raise_dropped(void);
/* Would it raise? */
int message_was_dropped(void);
/* A machine starts (+1) or stops (-1) on this thread: then a dying request is told to it. */
void message_machines(int change);
/* While above zero, dying requests are not reported: a branch is being discarded. */
void message_quiet(int change);

/* --- what a computation did not make (outside.c) ------------------------------------------ */

extern PyTypeObject OutsideType;
int outside_ready(PyObject *module);
/* 1 if `o` is outside, 0 if the computation made it, -1 on error. */
int outside_has(PyObject *outside, PyObject *o);

/* --- clones (clone.c) --------------------------------------------------------------------- */

int clone_ready(PyObject *module);

/* For the files that copy one kind of object: one act of copying, with its memo. */
typedef struct Fork Fork;
PyObject *fork_copy(Fork *fork, PyObject *o);
PyObject *fork_met(Fork *fork, PyObject *o); /* the copy made already: borrowed, or NULL */
int fork_remember(Fork *fork, PyObject *from, PyObject *to);
PyObject *fork_refuse(PyObject *o, const char *why); /* raises CaptureError, gives NULL */
PyObject *fork_iterator(Fork *fork, PyObject *o);    /* word by word */

/* Clone generators and ambient handlers together, with one memo. New references in `frames_out`.
   `watch` may be NULL. 0 or -1 with an exception (CaptureError: cannot be cloned). */
/* `kept`, if not NULL, is a handler that is not copied; with `tensors`, tensors are copied. */
int fork_computation(PyObject **frames, Py_ssize_t n, PyObject *ambient, PyObject *outside,
                     PyObject *kept, int tensors, PyObject **frames_out, PyObject **ambient_out);
/* Clone one suspended generator by itself. `aliased`: what was copied has other owners as well, so
   a frame that is copied another time could come to hold another copy. With `alone`, such a clone
   is dropped again: NULL without an exception. */
PyObject *fork_frame(PyObject *frame, PyObject *outside, int alone, int *aliased);
/* 1 if branches share `o` as it is, by the rule for its type; 0 if not, -1 on error. */
int is_shared(PyObject *o);
/* Does a suspended frame hold nothing but atoms and ranges? Then nothing in it can change or run. */
int holds_atoms_only(PyObject *o);
/* Drop suspended frames without running anything of the model. Steals the reference. */
void discard_frame(PyObject *frame);
/* Nothing of these frames runs any more, nor what only they hold. */
void silence_frames(PyObject **frames, Py_ssize_t n);
/* Nothing can change it, and nothing it refers to can: every branch may have it. (A subclass of
   the module type is no atom here, but shared by rule.) The order is that of the questions asked:
   numbers and strings first, then what the collector knows, which is mostly a container. */
static inline int
is_atomic(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type ||
        o == Py_None || type == &PyBool_Type) {
        return 1;
    }
    if (PyType_HasFeature(type, Py_TPFLAGS_HAVE_GC)) {
        return type == &PyModule_Type ||
               (PyType_Check(o) && ((PyTypeObject *)o)->tp_flags & Py_TPFLAGS_IMMUTABLETYPE);
    }
    return type != &PyRangeIter_Type &&
           (type == &PyBytes_Type || type == &PyComplex_Type || type == &PyCode_Type ||
            type == &PyRange_Type || type == &PyEllipsis_Type || type == &_PyNotImplemented_Type);
}
/* A list [tensor, version, tensor, version, ...] of the watched objects in reach, or NULL:
   none found (no exception set) or an error. */
PyObject *watch_computation(PyObject **frames, Py_ssize_t n, PyObject *ambient, PyObject *outside);
/* 1 if nothing watched has changed, 0 if something has, -1 on error. */
int watch_holds(PyObject *watch);
/* 1 if branches share `o` and it can be changed in place (a tensor), 0 if not, -1 on error. */
int is_watched(PyObject *o);
extern int watching; /* a watched type has been met in this process */
/* 1 if a module holds the class under its name, 0 if a model may have made it, -1 on error. */
int is_global(PyObject *cls);

/* --- state keys (state_key.c) ------------------------------------------------------------- */

int state_key_ready(PyObject *module);

/* --- remembered returns (returns.c) ------------------------------------------------------- */

typedef struct Returns Returns;           /* the memory of frames in one state */
typedef struct ReturnsTable ReturnsTable; /* all of them, for one search */

int returns_ready(PyObject *module);
ReturnsTable *returns_table_new(void);
void returns_table_free(ReturnsTable *table);
/* The memory of the state in which a waiting frame is; NULL: it has none, or an error. The table
   keeps it. */
Returns *returns_of(ReturnsTable *table, PyObject *frame, PyObject *outside);
/* What a frame in that state returned when it was sent `sent`: borrowed, or NULL. */
PyObject *returns_get(Returns *returns, PyObject *sent);
int returns_put(Returns *returns, PyObject *sent, PyObject *returned);

/* --- iterators that own memory (itertools.c) ----------------------------------------------- */

int itertools_ready(void);
PyObject *copy_counting(Fork *fork, PyObject *o); /* product, permutations, combinations */
PyObject *copy_grouping(Fork *fork, PyObject *o); /* groupby, and the groups that it gives */

/* --- enumeration (explorer.c) ------------------------------------------------------------- */

int explorer_ready(PyObject *module);
/* Where a slot of a class written in Python lies in its instances. 0 or -1. */
int slot_offset(PyObject *type, const char *name, Py_ssize_t *offset);
/* Take a sample site of the function that runs behind `bridge` without leaving it: depth first goes
   on with the first value. 1: done, with a new reference in `value`. 0: ask the machine. */
int explorer_inline(PyObject *bridge, Message *msg, PyObject **value);
/* The function behind `bridge` has returned `value`. The answers (a core.bridge.Feed) with which it
   is to run again at once, None if the machine is to hear of the value, or NULL on error. */
PyObject *explorer_again(PyObject *bridge, PyObject *value);

/* --- direct style (bridge.c) -------------------------------------------------------------- */

int bridge_ready(PyObject *module);

/* --- enumeration with merging (merged.c) -------------------------------------------------- */

int merged_ready(PyObject *module);

/* --- random numbers (randomness.c) -------------------------------------------------------- */

int randomness_ready(PyObject *module);

/* --- histograms (tally.c) ----------------------------------------------------------------- */

int tally_ready(PyObject *module);

/* --- sums over a state graph (sweeps.c) --------------------------------------------------- */

int sweeps_ready(PyObject *module);

#endif
