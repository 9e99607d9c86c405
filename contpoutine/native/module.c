/* module.c: contpoutine._native, the part of the library that is written in C.

   Everything here has a counterpart in Python that is used when this module could not be built;
   what Python sees is documented there. */

#include "native.h"

PyObject *err_capture, *err_empty_support, *err_unperformed, *warn_unperformed;

static int
import_errors(void)
{
    PyObject *errors = PyImport_ImportModule("contpoutine.errors");
    if (errors == NULL) {
        return -1;
    }
    err_capture = PyObject_GetAttrString(errors, "CaptureError");
    err_empty_support = PyObject_GetAttrString(errors, "EmptySupportError");
    err_unperformed = PyObject_GetAttrString(errors, "UnperformedEffectError");
    warn_unperformed = PyObject_GetAttrString(errors, "UnperformedEffectWarning");
    Py_DECREF(errors);
    return err_capture == NULL || err_empty_support == NULL || err_unperformed == NULL || warn_unperformed == NULL ? -1 : 0;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "contpoutine._native",
    .m_doc = "Native capture, messages and the inner loop of enumeration.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || import_errors() < 0 || message_ready(module) < 0 ||
        outside_ready(module) < 0 || clone_ready(module) < 0 || state_key_ready(module) < 0 ||
        explorer_ready(module) < 0 || merged_ready(module) < 0 || returns_ready(module) < 0 ||
        randomness_ready(module) < 0 || tally_ready(module) < 0 || itertools_ready() < 0 ||
        sweeps_ready(module) < 0 || bridge_ready(module) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
