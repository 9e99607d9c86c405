/* bridge.c: `sample`, as an ordinary function calls it.

   An ordinary function that is enumerated is run again for each resumption but the first, with its
   recorded answers: the inner loop of replay. Here a site takes the next answer, where nobody else
   wants to see it (no Messenger is installed inside) and nothing in it can change. Whatever else
   happens is told to the function in Python that knows all cases.

   A function that is given up is unwound by an exception, since a greenlet has a C stack that must
   be left. `silence` takes the handlers of that exception away: no `finally`, `except` or `with` of
   the function runs. */

#include "native.h"

static PyObject *ambient_var, *bridge_var;       /* core.ambient */
static PyTypeObject *bridge_type, *feed_type;    /* core.bridge */
static Py_ssize_t at_feed, at_base, at_effects, at_left;
static PyObject *perform;                        /* core.direct.perform */
static PyObject *whole;                          /* compat.pyro.primitives: sample with any arguments */
static PyObject *str_obs, *str_sample_infer;

static PyObject *
slot(PyObject *o, Py_ssize_t offset)
{
    return *(PyObject **)((char *)o + offset);
}

/* The observed value among the keywords, or NULL where there is none. 0, or -1: another keyword. */
static int
observed(PyObject *const *values, PyObject *names, PyObject **obs)
{
    *obs = NULL;
    Py_ssize_t n = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (name == str_obs) {
            *obs = values[i];
        }
        else if (name != str_sample_infer) {
            return -1;
        }
    }
    return 0;
}

/* The recorded answer to the site `name`, taken from the feed of `bridge`; or NULL without an
   exception where it is not for here. */
static PyObject *
next_answer(PyObject *bridge, PyObject *feed, PyObject *name)
{
    PyObject *left = slot(feed, at_left);
    Py_ssize_t n = left != NULL && PyList_CheckExact(left) ? PyList_GET_SIZE(left) : 0;
    if (n == 0) {
        return NULL;
    }
    PyObject *answer = PyList_GET_ITEM(left, n - 1);
    if (!PyTuple_CheckExact(answer) || PyTuple_GET_SIZE(answer) != 3 ||
        !is_atomic(PyTuple_GET_ITEM(answer, 1)) || !PyUnicode_Check(name)) {
        return NULL;
    }
    PyObject *expected = PyTuple_GET_ITEM(answer, 0);
    if (expected != name && PyUnicode_Compare(expected, name) != 0) {
        return NULL;
    }
    PyObject *value = Py_NewRef(PyTuple_GET_ITEM(answer, 1));
    if (PyList_SetSlice(left, n - 1, n, NULL) < 0) {
        Py_DECREF(value);
        return NULL;
    }
    if (n == 1) {
        PyObject **place = (PyObject **)((char *)bridge + at_feed);
        Py_XSETREF(*place, Py_NewRef(Py_None));
    }
    return value;
}

static PyObject *
direct_sample(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
              PyObject *names)
{
    if (whole == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "contpoutine.compat.pyro is not imported");
        return NULL;
    }
    PyObject *obs, *bridge, *ambient, *value = NULL;
    if (nargs != 2 || observed(args + nargs, names, &obs) < 0) {
        return PyObject_Vectorcall(whole, args, (size_t)nargs, names);
    }
    if (PyContextVar_Get(bridge_var, NULL, &bridge) < 0) {
        return NULL;
    }
    if (PyContextVar_Get(ambient_var, NULL, &ambient) < 0) {
        Py_DECREF(bridge);
        return NULL;
    }
    int bare = Py_IS_TYPE(bridge, bridge_type) && ambient == slot(bridge, at_base);
    PyObject *feed = bare ? slot(bridge, at_feed) : NULL;
    int replays = feed != NULL && Py_IS_TYPE(feed, feed_type);
    Py_DECREF(ambient);
    if (replays) {
        value = obs != NULL && obs != Py_None ? Py_NewRef(obs) : next_answer(bridge, feed, args[0]);
    }
    if (value == NULL && !PyErr_Occurred()) {
        PyObject *msg = message_sample(NULL, args, nargs, names);
        if (msg != NULL && bare && !replays && explorer_inline(bridge, (Message *)msg, &value)) {
            PyObject **effects = (PyObject **)((char *)bridge + at_effects);
            Py_XSETREF(*effects, Py_NewRef(Py_True)); /* there was one */
        }
        else if (msg != NULL) {
            value = PyObject_CallOneArg(perform, msg);
            ((Message *)msg)->performed = 1; /* it was not forgotten, whatever has happened */
        }
        Py_XDECREF(msg);
    }
    Py_DECREF(bridge);
    return value;
}

/* again(bridge, value): the answers with which the function is to run once more, or None. */
static PyObject *
again(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n)
{
    PyObject *ambient;
    if (n != 2 || bridge_type == NULL || !Py_IS_TYPE(args[0], bridge_type)) {
        Py_RETURN_NONE;
    }
    if (PyContextVar_Get(ambient_var, NULL, &ambient) < 0) {
        return NULL;
    }
    Py_DECREF(ambient);
    if (ambient != slot(args[0], at_base) || slot(args[0], at_feed) != Py_None) {
        Py_RETURN_NONE;
    }
    return explorer_again(args[0], args[1]);
}

static PyObject *
set_direct(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *ambient, *current, *bridge, *feed, *function, *all;
    if (!PyArg_ParseTuple(args, "O!O!O!O!OO", &PyContextVar_Type, &ambient, &PyContextVar_Type,
                          &current, &PyType_Type, &bridge, &PyType_Type, &feed, &function,
                          &all) ||
        slot_offset(bridge, "feed", &at_feed) < 0 || slot_offset(bridge, "base", &at_base) < 0 ||
        slot_offset(bridge, "effects", &at_effects) < 0 ||
        slot_offset(feed, "left", &at_left) < 0) {
        return NULL;
    }
    Py_XSETREF(ambient_var, Py_NewRef(ambient));
    Py_XSETREF(bridge_var, Py_NewRef(current));
    Py_XSETREF(bridge_type, (PyTypeObject *)Py_NewRef(bridge));
    Py_XSETREF(feed_type, (PyTypeObject *)Py_NewRef(feed));
    Py_XSETREF(perform, Py_NewRef(function));
    Py_XSETREF(whole, Py_NewRef(all));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(direct_sample_doc,
"sample($module, name, fn, /, *args, obs=None, infer=None, **kwargs)\n--\n\n"
"Draw from the distribution `fn` at the site `name`, and give the value.\n"
"\n"
"For ordinary functions as models; a generator yields `cp.sample(...)`. What is drawn is up to the\n"
"handlers around the function; without any, `fn` is sampled.\n"
"\n"
"Args:\n"
"    obs: the value that was observed, if it was; it is what the call gives.\n"
"    infer: a mapping for handlers and inference algorithms.\n");

/* silence(frame, code): the frame, suspended in a call, has no handlers any more; `code` is its code
   without its exception table. */
static PyObject *
silence(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyFrameObject *frame;
    PyCodeObject *code;
    if (!PyArg_ParseTuple(args, "O!O!", &PyFrame_Type, &frame, &PyCode_Type, &code)) {
        return NULL;
    }
    PyCodeObject *old = compat_frame_code(frame->f_frame);
    if (Py_SIZE(old) != Py_SIZE(code) || old->co_nlocalsplus != code->co_nlocalsplus ||
        old->co_stacksize != code->co_stacksize) {
        PyErr_SetString(PyExc_ValueError, "this is other code");
        return NULL;
    }
    compat_frame_set_code(frame->f_frame, (PyCodeObject *)Py_NewRef(code));
    Py_RETURN_NONE;
}

/* quiet(change): while above zero, requests that die unperformed are not reported. */
static PyObject *
native_quiet(PyObject *Py_UNUSED(module), PyObject *change)
{
    long by = PyLong_AsLong(change);
    if (by == -1 && PyErr_Occurred()) {
        return NULL;
    }
    message_quiet((int)by);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"direct_sample", (PyCFunction)(void (*)(void))direct_sample, METH_FASTCALL | METH_KEYWORDS,
     direct_sample_doc},
    {"again", (PyCFunction)(void (*)(void))again, METH_FASTCALL,
     "The answers with which a function that has returned is to run again at once, or None."},
    {"silence", silence, METH_VARARGS, "Take the exception handlers of a suspended frame away."},
    {"quiet", native_quiet, METH_O, "A branch is being discarded (+1), or has been (-1)."},
    {"set_direct", set_direct, METH_VARARGS, "Tell direct_sample what it works with."},
    {NULL, NULL, 0, NULL},
};

int
bridge_ready(PyObject *module)
{
    str_obs = PyUnicode_InternFromString("obs");
    str_sample_infer = PyUnicode_InternFromString("infer");
    if (str_obs == NULL || str_sample_infer == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
