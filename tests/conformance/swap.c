/* swap.c: for as long as it is switched on, every generator of the process lives on in its clones.

   A frame evaluation hook (PEP 523) sees each generator as it comes to rest at a `yield`. There it is
   cloned by the extension, and the two exchange their contents: the object that everybody holds goes
   on with the locals, the value stack and the exception state of the clone, and what it had before
   is discarded. If a clone is a whole generator, no program can tell. Identities, `gi_frame`,
   weak references and `yield from` are those of ordinary generators.

   A program that is no model lets others see what a generator holds: a list that it was passed, an
   iterator that it gave away. These are outside, so that the clone shares them: whatever is held by
   more references than can be found by walking from the generator itself. */

#include "compat.h"
#include "native.h"

static PyObject *native_fork, *native_discard, *native_outside, *capture_error;
static PyObject *refused; /* dict: reason -> how often */
static PyObject *broken;  /* list: errors that are no refusals */
static Py_ssize_t clones;
static int busy;
static _PyFrameEvalFunction before;

/* --- who else can see what a generator holds? ---------------------------------------------- */

typedef struct {
    PyObject *o;
    Py_ssize_t met;
} Seen;

typedef struct {
    Seen *table; /* open addressing */
    size_t mask, used;
    PyObject **queue; /* in the order of meeting */
    size_t room;
} Walk;

static Seen *
place(Walk *w, PyObject *o)
{
    size_t i = ((size_t)o >> 4) * 0x9E3779B97F4A7C15ull >> 17 & w->mask;
    while (w->table[i].o != NULL && w->table[i].o != o) {
        i = (i + 1) & w->mask;
    }
    return &w->table[i];
}

static int
grow(Walk *w)
{
    size_t size = (w->mask + 1) * 2;
    Seen *old = w->table;
    size_t n = w->mask + 1;
    w->table = PyMem_Calloc(size, sizeof(Seen));
    PyObject **queue = PyMem_Realloc(w->queue, size * sizeof(PyObject *));
    if (w->table == NULL || queue == NULL) {
        return -1;
    }
    w->queue = queue;
    w->mask = size - 1;
    for (size_t i = 0; i < n; i++) {
        if (old[i].o != NULL) {
            *place(w, old[i].o) = old[i];
        }
    }
    PyMem_Free(old);
    return 0;
}

static int
meet(PyObject *o, void *arg)
{
    Walk *w = arg;
    if (o == NULL || is_atomic(o) || PyType_Check(o) || PyModule_Check(o) || PyFrame_Check(o) ||
        PyTraceBack_Check(o)) {
        return 0;
    }
    Seen *seen = place(w, o);
    seen->met++;
    if (seen->o == NULL) {
        seen->o = o;
        w->queue[w->used++] = o;
        if (w->used * 2 > w->mask && grow(w) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
look_into(Walk *w, PyObject *o)
{
    if (PyFunction_Check(o)) { /* not its globals */
        PyFunctionObject *f = (PyFunctionObject *)o;
        return meet(f->func_closure, w) | meet(f->func_defaults, w) | meet(f->func_kwdefaults, w) |
               meet(f->func_dict, w);
    }
    traverseproc traverse = Py_TYPE(o)->tp_traverse;
    return traverse == NULL || !PyObject_IS_GC(o) ? 0 : traverse(o, meet, w);
}

/* A tuple of the objects in reach of the generator that are held from elsewhere as well. */
static PyObject *
seen_by_others(PyObject *gen)
{
    Walk w = {PyMem_Calloc(128, sizeof(Seen)), 127, 0, PyMem_Malloc(128 * sizeof(PyObject *)), 0};
    PyObject *roots = NULL, *found = PyList_New(0);
    if (w.table == NULL || w.queue == NULL || found == NULL || meet(gen, &w) < 0) {
        goto done;
    }
    for (size_t i = 0; i < w.used; i++) {
        if (look_into(&w, w.queue[i]) < 0) {
            goto done;
        }
    }
    for (size_t i = 1; i < w.used; i++) {
        if (Py_REFCNT(w.queue[i]) > place(&w, w.queue[i])->met &&
            PyList_Append(found, w.queue[i]) < 0) {
            goto done;
        }
    }
    roots = PyList_AsTuple(found);
done:
    PyMem_Free(w.table);
    PyMem_Free(w.queue);
    Py_XDECREF(found);
    if (roots == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    return roots;
}

/* --- exchanging ---------------------------------------------------------------------------- */

static void
exchange(PyGenObject *a, PyGenObject *b)
{
    Frame *p = compat_gen_frame(a), *q = compat_gen_frame(b);
    Frame kept_p = *p, kept_q = *q;
    size_t header = offsetof(Frame, localsplus);
    int n = kept_p.stacktop > kept_q.stacktop ? kept_p.stacktop : kept_q.stacktop;
    memcpy(p, &kept_q, header);
    memcpy(q, &kept_p, header);
    p->previous = kept_p.previous;
    p->frame_obj = kept_p.frame_obj;
    p->owner = kept_p.owner;
    q->previous = kept_q.previous;
    q->frame_obj = kept_q.frame_obj;
    q->owner = kept_q.owner;
    for (int i = 0; i < n; i++) {
        PyObject *held = p->localsplus[i];
        p->localsplus[i] = q->localsplus[i];
        q->localsplus[i] = held;
    }
    PyObject *error = a->gi_exc_state.exc_value;
    a->gi_exc_state.exc_value = b->gi_exc_state.exc_value;
    b->gi_exc_state.exc_value = error;
}

static void
note(PyObject *type, PyObject *value)
{
    PyObject *said = value == NULL ? NULL : PyObject_Str(value);
    if (said == NULL) {
        PyErr_Clear();
    }
    else if (PyErr_GivenExceptionMatches(type, capture_error)) {
        PyObject *n = PyDict_GetItemWithError(refused, said);
        PyObject *more = PyLong_FromLong(n == NULL ? 1 : PyLong_AsLong(n) + 1);
        if (more != NULL) {
            PyDict_SetItem(refused, said, more);
        }
        Py_XDECREF(more);
    }
    else {
        PyList_Append(broken, said);
    }
    Py_XDECREF(said);
    PyErr_Clear();
}

/* The generator is at rest: let it go on as its own clone. */
static void
renew(PyGenObject *gen)
{
    PyObject *outside = NULL, *copies = NULL, *frames = PyList_New(0);
    PyObject *roots = seen_by_others((PyObject *)gen);
    if (roots != NULL && frames != NULL && PyList_Append(frames, (PyObject *)gen) == 0) {
        outside = PyObject_CallOneArg(native_outside, roots);
    }
    if (outside != NULL) {
        PyObject *none = PyTuple_New(0);
        copies = PyObject_CallFunctionObjArgs(native_fork, frames, none, outside, NULL);
        Py_XDECREF(none);
    }
    if (copies != NULL) {
        PyObject *list = PyTuple_GET_ITEM(copies, 0);
        PyObject *copy = PyList_GET_ITEM(list, 0);
        if (copy == (PyObject *)gen || !PyGen_CheckExact(copy)) {
            PyErr_SetString(PyExc_AssertionError, "the clone is no generator of its own");
        }
        else {
            exchange(gen, (PyGenObject *)copy);
            clones++;
            Py_XDECREF(PyObject_CallOneArg(native_discard, list));
        }
    }
    if (PyErr_Occurred()) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        note(type, value);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    Py_XDECREF(copies);
    Py_XDECREF(outside);
    Py_XDECREF(roots);
    Py_XDECREF(frames);
}

static PyObject *
evaluate(PyThreadState *tstate, Frame *frame, int throwflag)
{
    PyGenObject *gen = NULL;
    if (frame->owner == FRAME_OWNED_BY_GENERATOR && !busy) {
        gen = _PyFrame_GetGenerator(frame);
    }
    PyObject *result = _PyEval_EvalFrameDefault(tstate, frame, throwflag);
    if (result != NULL && gen != NULL && !busy && PyGen_CheckExact(gen) &&
        compat_gen_is_suspended(gen)) {
        busy = 1;
        Py_INCREF(gen);
        renew(gen);
        Py_DECREF(gen);
        busy = 0;
    }
    return result;
}

/* --- for Python ---------------------------------------------------------------------------- */

static PyObject *
swap_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    PyInterpreterState *interp = PyThreadState_Get()->interp;
    before = _PyInterpreterState_GetEvalFrameFunc(interp);
    _PyInterpreterState_SetEvalFrameFunc(interp, evaluate);
    Py_RETURN_NONE;
}

static PyObject *
swap_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    _PyInterpreterState_SetEvalFrameFunc(PyThreadState_Get()->interp, before);
    return Py_BuildValue("nOO", clones, refused, broken);
}

static PyMethodDef functions[] = {
    {"start", swap_start, METH_NOARGS, "From now on, generators live on in their clones."},
    {"stop", swap_stop, METH_NOARGS, "stop() -> (clones made, {refusal: times}, [errors])"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "swap",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit_swap(void)
{
    PyObject *native = PyImport_ImportModule("contpoutine._native");
    PyObject *errors = native == NULL ? NULL : PyImport_ImportModule("contpoutine.errors");
    if (errors == NULL) {
        return NULL;
    }
    native_fork = PyObject_GetAttrString(native, "fork");
    native_discard = PyObject_GetAttrString(native, "discard");
    native_outside = PyObject_GetAttrString(native, "Outside");
    capture_error = PyObject_GetAttrString(errors, "CaptureError");
    refused = PyDict_New();
    broken = PyList_New(0);
    Py_DECREF(native);
    Py_DECREF(errors);
    if (native_fork == NULL || native_discard == NULL || native_outside == NULL ||
        capture_error == NULL || refused == NULL || broken == NULL) {
        return NULL;
    }
    return PyModule_Create(&definition);
}
