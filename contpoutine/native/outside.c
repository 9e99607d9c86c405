/* outside.c: which objects a computation did not make.

   A fork copies what the computation made and shares what it was given: the model, its arguments
   and what they hold, what its closure and the globals named in its code hold. `Outside(roots)`
   answers for one object. The set is built by one walk from the roots, at the first question about
   an object that could be copied at all, so a model that owns no containers never pays for it.

   A handler is reachable from the model that it wraps, but what it makes for itself (a log, a
   counter) belongs to the computation. Only what was passed to its constructor is outside: the
   handler types keep that in `_given`, and the walk goes no further into them.

   The objects found are kept alive, so that an address is never reused while the set is in use. */

#include "native.h"

typedef struct {
    PyObject_HEAD
    PyObject *roots;  /* tuple */
    PyObject *parent; /* another Outside, or NULL */
    PyObject *kept;   /* list: every member, alive */
    PyObject **table; /* open addressing, NULL is free */
    size_t mask;
    size_t used;
    char built;
} Outside;

static PyObject *skipped_packages; /* frozenset: code whose globals are not looked into */
static PyObject *str_given, *str_opaque;
static PyObject *str_module;

static size_t
slot_of(PyObject *o, size_t mask)
{
    size_t h = (size_t)o;
    h = (h >> 4) ^ (h >> 13);
    return (h * 0x9E3779B97F4A7C15ull >> 17) & mask;
}

static int
set_has(Outside *self, PyObject *o)
{
    if (self->table == NULL) {
        return 0;
    }
    for (size_t i = slot_of(o, self->mask);; i = (i + 1) & self->mask) {
        if (self->table[i] == NULL) {
            return 0;
        }
        if (self->table[i] == o) {
            return 1;
        }
    }
}

static int
set_grow(Outside *self)
{
    size_t size = self->table == NULL ? 64 : (self->mask + 1) * 2;
    PyObject **fresh = PyMem_Calloc(size, sizeof(PyObject *));
    if (fresh == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (self->table != NULL) {
        for (size_t i = 0; i <= self->mask; i++) {
            PyObject *o = self->table[i];
            if (o != NULL) {
                size_t j = slot_of(o, size - 1);
                while (fresh[j] != NULL) {
                    j = (j + 1) & (size - 1);
                }
                fresh[j] = o;
            }
        }
        PyMem_Free(self->table);
    }
    self->table = fresh;
    self->mask = size - 1;
    return 0;
}

/* Put `o` in the set and on the list of objects still to be looked into. */
static int
found(PyObject *o, void *arg)
{
    Outside *self = arg;
    if (o == NULL || (is_atomic(o) && !PyType_Check(o) && !PyModule_Check(o))) {
        return 0;
    }
    if (set_has(self, o)) {
        return 0;
    }
    if ((self->table == NULL || self->used * 2 > self->mask) && set_grow(self) < 0) {
        return -1;
    }
    size_t i = slot_of(o, self->mask);
    while (self->table[i] != NULL) {
        i = (i + 1) & self->mask;
    }
    self->table[i] = o;
    self->used++;
    return PyList_Append(self->kept, o);
}

/* Does this function or class come from a package that is not the user's? */
static int
is_skipped(PyObject *module_name)
{
    if (module_name == NULL || !PyUnicode_Check(module_name) || skipped_packages == NULL) {
        return 0;
    }
    Py_ssize_t dot = PyUnicode_FindChar(module_name, '.', 0, PyUnicode_GET_LENGTH(module_name), 1);
    PyObject *root = dot < 0 ? Py_NewRef(module_name) : PyUnicode_Substring(module_name, 0, dot);
    if (root == NULL) {
        return -1;
    }
    int skip = PySet_Contains(skipped_packages, root);
    Py_DECREF(root);
    return skip;
}

/* What is named of a module, and of the modules in it: `a.b.table`. */
static int
find_members(Outside *self, PyObject *module, PyObject *names, int depth)
{
    PyObject *inside = PyModule_GetDict(module); /* borrowed */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *member = PyDict_GetItemWithError(inside, PyTuple_GET_ITEM(names, i));
        if (member == NULL) {
            if (PyErr_Occurred()) {
                return -1;
            }
            continue;
        }
        if (PyModule_Check(member) ? depth < 3 && find_members(self, member, names, depth + 1) < 0
                                   : found(member, self) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The globals named in a piece of code, and what is named of the modules among them. */
static int
find_globals(Outside *self, PyCodeObject *code, PyObject *globals)
{
    PyObject *names = code->co_names;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *value = PyDict_GetItemWithError(globals, PyTuple_GET_ITEM(names, i));
        if (value == NULL) {
            if (PyErr_Occurred()) {
                return -1;
            }
            continue;
        }
        if (PyModule_Check(value) ? find_members(self, value, names, 0) < 0
                                  : found(value, self) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
        PyObject *constant = PyTuple_GET_ITEM(code->co_consts, i);
        if (PyCode_Check(constant) &&
            find_globals(self, (PyCodeObject *)constant, globals) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
look_into(Outside *self, PyObject *o)
{
    if (PyFunction_Check(o)) {
        PyFunctionObject *f = (PyFunctionObject *)o;
        if (found(f->func_closure, self) < 0 || found(f->func_defaults, self) < 0 ||
            found(f->func_kwdefaults, self) < 0 || found(f->func_dict, self) < 0) {
            return -1;
        }
        PyObject *names = ((PyCodeObject *)f->func_code)->co_names;
        for (Py_ssize_t i = 0; f->func_closure != NULL && i < PyTuple_GET_SIZE(f->func_closure);
             i++) {
            PyObject *held = PyCell_GET(PyTuple_GET_ITEM(f->func_closure, i));
            if (held != NULL && PyModule_Check(held) && find_members(self, held, names, 0) < 0) {
                return -1;
            }
        }
        int skip = is_skipped(f->func_module);
        return skip ? (skip < 0 ? -1 : 0)
                    : find_globals(self, (PyCodeObject *)f->func_code, f->func_globals);
    }
    if (PyModule_Check(o)) {
        return 0;
    }
    if (PyType_Check(o)) {
        PyTypeObject *type = (PyTypeObject *)o;
        if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || type->tp_dict == NULL) {
            return 0;
        }
        PyObject *module = PyDict_GetItemWithError(type->tp_dict, str_module);
        if (module == NULL && PyErr_Occurred()) {
            return -1;
        }
        int skip = is_skipped(module);
        if (skip) {
            return skip < 0 ? -1 : 0;
        }
        Py_ssize_t at = 0;
        PyObject *key, *value;
        while (PyDict_Next(type->tp_dict, &at, &key, &value)) {
            if (found(value, self) < 0) {
                return -1;
            }
        }
        return found(type->tp_bases, self);
    }
    if (PyGen_CheckExact(o) || Py_IS_TYPE(o, &MessageType)) {
        return 0; /* its frame belongs to whoever runs it, what it asks with to whoever asks */
    }
    if (Py_TYPE(o)->tp_flags & Py_TPFLAGS_HEAPTYPE &&
        _PyType_Lookup(Py_TYPE(o), str_opaque) != NULL) {
        return 0; /* a continuation that somebody keeps */
    }
    if (Py_TYPE(o)->tp_flags & Py_TPFLAGS_HEAPTYPE &&
        _PyType_Lookup(Py_TYPE(o), str_given) != NULL) {
        PyObject *given = PyObject_GetAttr(o, str_given);
        if (given == NULL) {
            return -1;
        }
        int rc = found(given, self);
        Py_DECREF(given); /* kept alive by the list */
        return rc;
    }
    traverseproc traverse = Py_TYPE(o)->tp_traverse;
    if (traverse == NULL || !PyObject_IS_GC(o)) {
        return 0;
    }
    return traverse(o, found, self);
}

static int
build(Outside *self)
{
    self->built = 1;
    self->kept = PyList_New(0);
    if (self->kept == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->roots); i++) {
        if (found(PyTuple_GET_ITEM(self->roots, i), self) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(self->kept); i++) {
        if (look_into(self, PyList_GET_ITEM(self->kept, i)) < 0) {
            if (!PyErr_Occurred()) {
                PyErr_NoMemory();
            }
            return -1;
        }
    }
    return 0;
}

int
outside_has(PyObject *outside, PyObject *o)
{
    while (outside != NULL && outside != Py_None) {
        Outside *self = (Outside *)outside;
        if (!self->built && build(self) < 0) {
            return -1;
        }
        if (set_has(self, o)) {
            return 1;
        }
        outside = self->parent;
    }
    return 0;
}

static PyObject *
outside_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"roots", "parent", NULL};
    PyObject *roots, *parent = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|O", names, &PyTuple_Type, &roots, &parent)) {
        return NULL;
    }
    if (parent != Py_None && !Py_IS_TYPE(parent, &OutsideType)) {
        PyErr_SetString(PyExc_TypeError, "parent must be an Outside or None");
        return NULL;
    }
    Outside *self = (Outside *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->roots = Py_NewRef(roots);
        self->parent = parent == Py_None ? NULL : Py_NewRef(parent);
    }
    return (PyObject *)self;
}

static int
outside_traverse(Outside *self, visitproc visit, void *arg)
{
    Py_VISIT(self->roots);
    Py_VISIT(self->parent);
    Py_VISIT(self->kept);
    return 0;
}

static int
outside_clear(Outside *self)
{
    Py_CLEAR(self->roots);
    Py_CLEAR(self->parent);
    Py_CLEAR(self->kept);
    return 0;
}

static void
outside_dealloc(Outside *self)
{
    PyObject_GC_UnTrack(self);
    outside_clear(self);
    PyMem_Free(self->table);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
outside_contains(PyObject *self, PyObject *o)
{
    return outside_has(self, o);
}

static Py_ssize_t
outside_length(PyObject *op)
{
    Outside *self = (Outside *)op;
    if (!self->built && build(self) < 0) {
        return -1;
    }
    return (Py_ssize_t)self->used;
}

static PySequenceMethods outside_sequence = {
    .sq_contains = outside_contains,
    .sq_length = outside_length,
};

PyTypeObject OutsideType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Outside",
    .tp_doc = "Outside(roots, parent=None): the objects that a computation did not make.",
    .tp_basicsize = sizeof(Outside),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = outside_new,
    .tp_traverse = (traverseproc)outside_traverse,
    .tp_clear = (inquiry)outside_clear,
    .tp_dealloc = (destructor)outside_dealloc,
    .tp_as_sequence = &outside_sequence,
};

static PyObject *
set_skipped_packages(PyObject *Py_UNUSED(module), PyObject *names)
{
    if (!PyFrozenSet_CheckExact(names)) {
        PyErr_SetString(PyExc_TypeError, "a frozenset of package names is needed");
        return NULL;
    }
    Py_XSETREF(skipped_packages, Py_NewRef(names));
    Py_RETURN_NONE;
}

static PyMethodDef outside_functions[] = {
    {"set_skipped_packages", set_skipped_packages, METH_O,
     "Name the packages whose functions' globals and whose classes are not looked into."},
    {NULL, NULL, 0, NULL},
};

int
outside_ready(PyObject *module)
{
    str_given = PyUnicode_InternFromString("_given");
    str_module = PyUnicode_InternFromString("__module__");
    str_opaque = PyUnicode_InternFromString("fork_opaque");
    if (str_given == NULL || str_opaque == NULL || str_module == NULL || PyType_Ready(&OutsideType) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, outside_functions) < 0 ||
                   PyModule_AddObjectRef(module, "Outside", (PyObject *)&OutsideType) < 0
               ? -1
               : 0;
}
