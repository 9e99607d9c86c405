/* compat.h: everything that differs between CPython 3.11, 3.12 and 3.13, and nothing else.

   The other files never look at PY_VERSION_HEX. The layout of a frame comes from CPython's own
   internal headers; no struct of theirs is typed again here. */

#ifndef CONTPOUTINE_COMPAT_H
#define CONTPOUTINE_COMPAT_H

#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include "Python.h"
#include "structmember.h"

#include "internal/pycore_frame.h"
#if PY_VERSION_HEX >= 0x030C0000
#include "internal/pycore_code.h"
#endif
#include "internal/pycore_context.h"
#include "internal/pycore_dict.h"
#undef Py_BUILD_CORE

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030E0000
#error "native capture knows CPython 3.11, 3.12 and 3.13; other versions use replay"
#endif
#ifdef Py_GIL_DISABLED
#error "native capture does not support free-threaded builds; they use replay"
#endif
#ifdef PYPY_VERSION
#error "native capture is for CPython; PyPy uses replay"
#endif

typedef _PyInterpreterFrame Frame;

static inline Frame *
compat_gen_frame(PyGenObject *gen)
{
    return (Frame *)gen->gi_iframe;
}

/* The code object of a frame, borrowed. */
static inline PyCodeObject *
compat_frame_code(Frame *frame)
{
#if PY_VERSION_HEX >= 0x030D0000
    return (PyCodeObject *)frame->f_executable;
#else
    return frame->f_code;
#endif
}

/* The function object of a frame, borrowed. */
static inline PyObject *
compat_frame_function(Frame *frame)
{
#if PY_VERSION_HEX >= 0x030C0000
    return frame->f_funcobj;
#else
    return (PyObject *)frame->f_func;
#endif
}

/* How many slots (locals, cells, free variables, value stack) a frame of this code has. */
static inline int
compat_frame_slots(PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030C0000
    return _PyFrame_NumSlotsForCodeObject(code);
#else
    return code->co_nlocalsplus + code->co_stacksize;
#endif
}

/* Fields of the generator object itself that only some versions have. */
static inline void
compat_init_gen_code(PyGenObject *gen, PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)gen;
    (void)code;
#else
    gen->gi_code = (PyCodeObject *)Py_NewRef(code);
#endif
}

/* A frozen generator looks finished to everybody, so that nothing can run it, not even its
   finalizer. The state it has then lies between FRAME_COMPLETED and FRAME_CLEARED, and is no other
   generator's; its real state waits in a field that only asynchronous generators use. */
#define FROZEN 2

static inline int
compat_gen_is_frozen(PyGenObject *gen)
{
    return gen->gi_frame_state == FROZEN;
}

static inline int
compat_gen_state(PyGenObject *gen)
{
    return compat_gen_is_frozen(gen) ? (signed char)gen->gi_hooks_inited : gen->gi_frame_state;
}

static inline void
compat_gen_freeze(PyGenObject *gen)
{
    _Static_assert(FRAME_COMPLETED < FROZEN && FROZEN < FRAME_CLEARED, "no room for FROZEN");
    gen->gi_hooks_inited = (char)gen->gi_frame_state;
    gen->gi_frame_state = FROZEN;
}

static inline void
compat_gen_thaw(PyGenObject *gen)
{
    gen->gi_frame_state = (signed char)gen->gi_hooks_inited;
}

/* Suspended at a yield (or a yield from): has locals, value stack and next instruction at rest. */
static inline int
compat_gen_is_suspended(PyGenObject *gen)
{
    int state = compat_gen_state(gen);
#if PY_VERSION_HEX >= 0x030D0000
    return FRAME_STATE_SUSPENDED(state);
#else
    return state == FRAME_SUSPENDED;
#endif
}

static inline int
compat_gen_is_created(PyGenObject *gen)
{
    return compat_gen_state(gen) == FRAME_CREATED;
}

static inline int
compat_gen_is_finished(PyGenObject *gen)
{
    return compat_gen_state(gen) >= FRAME_COMPLETED;
}

static inline int
compat_frame_line(Frame *frame)
{
    return PyCode_Addr2Line(compat_frame_code(frame),
                            _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT));
}

/* The value of a context variable that has one: a new reference. The variable itself remembers the
   last answer of this thread; looking there is most of what PyContextVar_Get does. */
static inline int
compat_context_get(PyObject *var, PyObject **value)
{
    PyContextVar *known = (PyContextVar *)var;
    PyThreadState *tstate = PyThreadState_Get();
    if (known->var_cached != NULL && known->var_cached_tsid == tstate->id &&
        known->var_cached_tsver == tstate->context_ver) {
        *value = Py_NewRef(known->var_cached);
        return 0;
    }
    return PyContextVar_Get(var, NULL, value);
}

/* Let a suspended frame go on at the same place of other code of the same shape. Steals `code`. */
static inline void
compat_frame_set_code(Frame *frame, PyCodeObject *code)
{
    PyCodeObject *old = compat_frame_code(frame);
#if PY_VERSION_HEX >= 0x030D0000
    frame->instr_ptr = _PyCode_CODE(code) + (frame->instr_ptr - _PyCode_CODE(old));
    frame->f_executable = (PyObject *)code;
#else
    frame->prev_instr = _PyCode_CODE(code) + (frame->prev_instr - _PyCode_CODE(old));
    frame->f_code = code;
#endif
    Py_DECREF(old);
}

/* getattr(o, name) without an exception where there is none: 1 found, 0 not, -1 error. */
static inline int
compat_lookup_attr(PyObject *o, PyObject *name, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(o, name, value);
#else
    return _PyObject_LookupAttr(o, name, value);
#endif
}

/* The innermost frame of Python code that is running on this thread, or NULL. */
static inline Frame *
compat_current_frame(void)
{
    PyThreadState *tstate = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
    Frame *frame = tstate->current_frame;
#else
    Frame *frame = tstate->cframe->current_frame;
#endif
    while (frame != NULL && _PyFrame_IsIncomplete(frame)) {
        frame = frame->previous;
    }
    return frame;
}

/* The frame of Python code that called this one, or NULL. */
static inline Frame *
compat_caller(Frame *frame)
{
    frame = frame->previous;
    while (frame != NULL && _PyFrame_IsIncomplete(frame)) {
        frame = frame->previous;
    }
    return frame;
}

/* Where a frame stands, as a byte offset that PyCode_Addr2Line understands. */
static inline int
compat_frame_lasti(Frame *frame)
{
    return _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT);
}

#endif
