/* randomness.c: the state of Python's own random number generator, as bytes.

   `_random.Random` is a C struct of numbers without a single reference, so its state is the bytes
   behind the object header. Reading them takes 50 ns; `getstate()` builds 625 integers. The bytes
   are only compared, and put back where they came from. */

#include "native.h"

static PyTypeObject *random_type; /* _random.Random */

static char *
state_of(PyObject *generator, Py_ssize_t *size)
{
    if (!PyObject_TypeCheck(generator, random_type)) {
        PyErr_Format(PyExc_TypeError, "a random.Random is needed, not %R",
                     (PyObject *)Py_TYPE(generator));
        return NULL;
    }
    *size = random_type->tp_basicsize - (Py_ssize_t)sizeof(PyObject);
    return (char *)generator + sizeof(PyObject);
}

static PyObject *
random_state(PyObject *Py_UNUSED(module), PyObject *generator)
{
    Py_ssize_t size;
    char *state = state_of(generator, &size);
    return state == NULL ? NULL : PyBytes_FromStringAndSize(state, size);
}

static PyObject *
set_random_state(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *generator;
    const char *saved;
    Py_ssize_t length, size;
    if (!PyArg_ParseTuple(args, "Oy#", &generator, &saved, &length)) {
        return NULL;
    }
    char *state = state_of(generator, &size);
    if (state == NULL) {
        return NULL;
    }
    if (length != size) {
        PyErr_SetString(PyExc_ValueError, "this is no state that random_state gave");
        return NULL;
    }
    memcpy(state, saved, (size_t)size);
    Py_RETURN_NONE;
}

/* The bytes of an object behind its header: equal bytes say that nothing in it has changed. */
static PyObject *
object_bytes(PyObject *Py_UNUSED(module), PyObject *o)
{
    return PyBytes_FromStringAndSize((char *)o + sizeof(PyObject),
                                     Py_TYPE(o)->tp_basicsize - (Py_ssize_t)sizeof(PyObject));
}

static PyMethodDef randomness_functions[] = {
    {"random_state", random_state, METH_O, "The state of a random.Random, as bytes."},
    {"set_random_state", set_random_state, METH_VARARGS,
     "Put a random.Random back to a state that random_state gave."},
    {"object_bytes", object_bytes, METH_O,
     "The memory of an object behind its header, to be compared and nothing else."},
    {NULL, NULL, 0, NULL},
};

int
randomness_ready(PyObject *module)
{
    PyObject *random = PyImport_ImportModule("_random");
    random_type = random == NULL ? NULL
                                 : (PyTypeObject *)PyObject_GetAttrString(random, "Random");
    Py_XDECREF(random);
    return random_type == NULL ? -1 : PyModule_AddFunctions(module, randomness_functions);
}
