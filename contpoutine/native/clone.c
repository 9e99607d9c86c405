/* clone.c: a second copy of a suspended computation.

   A suspended generator is at rest: its frame holds its locals, its value stack and its next
   instruction, and nothing of it is on the C stack. So it can be copied: allocate a generator for
   the same code, copy the frame's header, and carry each slot over by the ownership rules. The
   value stack comes along: the iterators of enclosing `for` loops, the bound `__exit__` of `with`
   blocks, the delegate of a `yield from`, half-built displays.

   The rules, in the order in which `copy` applies them:

     atoms (numbers, strings, classes, modules, code)     shared: nothing can change them
     already copied in this fork                          the copy: aliasing is kept
     outside (see outside.c)                              shared: the computation did not make it
     lists, dicts, sets, cells, functions, iterators, ... copied here
     a type with `__fork__`                               its own word
     anything else                                        asked of Python once a type (`classify`)

   What has no rule is refused with CaptureError, and the caller replays instead: an object is
   never shared because nobody knew better.

   One `Fork` is one act of copying, with one memo for all frames and handlers of a computation. */

#include "native.h"

/* --- the memo ------------------------------------------------------------------------------ */

typedef struct {
    PyObject *from, *to; /* `from` borrowed: it is alive for as long as the fork goes on */
} Pair;

#define INLINE_PAIRS 24

/* How deep a structure may be: a bound of our own, because Python's recursion limit may be raised
   without raising the C stack with it. */
#define MAX_DEPTH 3000

struct Fork {
    PyObject *outside;
    PyObject *proxy; /* the memo as Python sees it, or NULL */
    PyObject *notes; /* a dict for copy functions in Python, or NULL */
    Pair *pairs;
    Py_ssize_t n, room;
    int *index; /* open addressing over `pairs` once there are many */
    size_t mask;
    int located; /* the CaptureError in flight already names a frame */
    int aliased; /* something copied has more than one owner */
    int depth;   /* of `copy` within itself */
    int tensors; /* tensors are copied, and not shared and watched */
    Pair inline_pairs[INLINE_PAIRS];
};

static size_t
hash_pointer(PyObject *o)
{
    return ((size_t)o >> 4) * 0x9E3779B97F4A7C15ull >> 20;
}

static PyObject *
recall(Fork *fork, PyObject *o)
{
    if (fork->index == NULL) {
        for (Py_ssize_t i = 0; i < fork->n; i++) {
            if (fork->pairs[i].from == o) {
                return fork->pairs[i].to;
            }
        }
        return NULL;
    }
    for (size_t i = hash_pointer(o) & fork->mask; fork->index[i] >= 0; i = (i + 1) & fork->mask) {
        if (fork->pairs[fork->index[i]].from == o) {
            return fork->pairs[fork->index[i]].to;
        }
    }
    return NULL;
}

static int
reindex(Fork *fork)
{
    size_t size = (size_t)fork->room * 4;
    int *index = PyMem_Malloc(size * sizeof(int));
    if (index == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        index[i] = -1;
    }
    PyMem_Free(fork->index);
    fork->index = index;
    fork->mask = size - 1;
    for (Py_ssize_t k = 0; k < fork->n; k++) {
        size_t i = hash_pointer(fork->pairs[k].from) & fork->mask;
        while (index[i] >= 0) {
            i = (i + 1) & fork->mask;
        }
        index[i] = (int)k;
    }
    return 0;
}

static int
remember(Fork *fork, PyObject *from, PyObject *to)
{
    if (fork->n == fork->room) {
        Py_ssize_t room = fork->room == INLINE_PAIRS ? 64 : fork->room * 2;
        Pair *pairs = PyMem_Malloc((size_t)room * sizeof(Pair));
        if (pairs == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(pairs, fork->pairs, (size_t)fork->n * sizeof(Pair));
        if (fork->pairs != fork->inline_pairs) {
            PyMem_Free(fork->pairs);
        }
        fork->pairs = pairs;
        fork->room = room;
        if (reindex(fork) < 0) {
            return -1;
        }
    }
    Py_ssize_t k = fork->n++;
    fork->pairs[k] = (Pair){from, Py_NewRef(to)};
    fork->aliased |= from != to && Py_REFCNT(from) > 1;
    if (fork->index != NULL) {
        size_t i = hash_pointer(from) & fork->mask;
        while (fork->index[i] >= 0) {
            i = (i + 1) & fork->mask;
        }
        fork->index[i] = (int)k;
    }
    return 0;
}

static void
fork_begin(Fork *fork, PyObject *outside)
{
    fork->outside = outside;
    fork->proxy = NULL;
    fork->notes = NULL;
    fork->pairs = fork->inline_pairs;
    fork->n = 0;
    fork->room = INLINE_PAIRS;
    fork->index = NULL;
    fork->mask = 0;
    fork->located = 0;
    fork->aliased = 0;
    fork->depth = 0;
    fork->tensors = 0;
}

static void proxy_close(PyObject *proxy);

static void silence_copies(Fork *fork);

static void
fork_end(Fork *fork)
{
    if (fork->proxy != NULL) {
        proxy_close(fork->proxy);
        Py_CLEAR(fork->notes);
    }
    for (Py_ssize_t i = 0; i < fork->n; i++) {
        Py_DECREF(fork->pairs[i].to);
    }
    if (fork->pairs != fork->inline_pairs) {
        PyMem_Free(fork->pairs);
    }
    PyMem_Free(fork->index);
}

/* --- refusing ------------------------------------------------------------------------------ */

static PyObject *
refuse(PyObject *o, const char *why)
{
    PyErr_Format(err_capture, "a %.200s object %s", Py_TYPE(o)->tp_name, why);
    return NULL;
}

#define EXCEPTION_SLOT (-1)
#define LOCALS_SLOT (-2)

/* Give the error in flight the attributes of a CaptureError that a program can read. */
static void
tell_place(PyObject *place, PyCodeObject *code, int line, PyObject *refused)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *number = PyLong_FromLong(line), *reason = PyObject_Str(refused);
    if (number == NULL || reason == NULL || PyObject_SetAttrString(value, "place", place) < 0 ||
        PyObject_SetAttrString(value, "function", code->co_qualname) < 0 ||
        PyObject_SetAttrString(value, "filename", code->co_filename) < 0 ||
        PyObject_SetAttrString(value, "line", number) < 0 ||
        PyObject_SetAttrString(value, "reason", reason) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(number);
    Py_XDECREF(reason);
    PyErr_Restore(type, value, traceback);
}

/* Say in the error in flight which frame and slot holds the object that was refused. */
static void
locate(Fork *fork, Frame *frame, int slot)
{
    if (fork->located || !PyErr_ExceptionMatches(err_capture)) {
        return;
    }
    fork->located = 1;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyCodeObject *code = compat_frame_code(frame);
    PyObject *place =
        slot == EXCEPTION_SLOT        ? PyUnicode_FromString("the exception being handled")
        : slot == LOCALS_SLOT         ? PyUnicode_FromString("the dict of locals()")
        : slot < code->co_nlocalsplus ? PyUnicode_FromFormat(
                                            "local %R", PyTuple_GET_ITEM(code->co_localsplusnames, slot))
                                      : PyUnicode_FromString(
                                            "the value stack (a `for`, `with` or `yield from`, or "
                                            "an expression around the yield)");
    if (place != NULL) {
        int line = compat_frame_line(frame);
        PyErr_Format(err_capture, "%U in %U at %U:%d holds what a clone cannot copy: %S", place,
                     code->co_qualname, code->co_filename, line, value);
        tell_place(place, code, line, value);
        Py_DECREF(place);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

static PyObject *str_opaque, *str_version, *str_fork;
static PyObject *str_untyped_storage, *str_resizable;

/* --- copying values ------------------------------------------------------------------------ */

static PyObject *copy(Fork *fork, PyObject *o);
static PyObject *copy_generator(Fork *fork, PyObject *o);
static PyObject *str_locals; /* "<locals>" */

/* A class that a module holds under its name is shared. One that the model made is refused: what
   its body and its methods hold would be shared with it. */
static PyObject *known_classes, *is_global_class;

int
is_global(PyObject *cls)
{
    int known = PySet_Contains(known_classes, cls);
    if (known != 0 || is_global_class == NULL) {
        return known;
    }
    PyObject *said = PyObject_CallOneArg(is_global_class, cls);
    int global = said == NULL ? -1 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    return global > 0 && PySet_Add(known_classes, cls) < 0 ? -1 : global;
}

static PyObject *
copy_class(PyObject *o)
{
    int global = is_global(o);
    if (global == 0) {
        PyErr_Format(err_capture, "the class %.200s was made by the model itself, so branches would "
                     "share what it holds; define it outside of the model",
                     ((PyTypeObject *)o)->tp_name);
    }
    return global > 0 ? Py_NewRef(o) : NULL;
}

static PyObject *
copy_list(Fork *fork, PyObject *o)
{
    Py_ssize_t n = PyList_GET_SIZE(o);
    PyObject *fresh = PyList_New(n);
    if (fresh == NULL || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    Py_ssize_t i = 0;
    PyObject **from = ((PyListObject *)o)->ob_item, **to = ((PyListObject *)fresh)->ob_item;
    for (; i < n && is_atomic(from[i]); i++) { /* most lists hold nothing else */
        to[i] = Py_NewRef(from[i]);
    }
    for (; i < n; i++) {
        PyObject *item = i < PyList_GET_SIZE(o) ? PyList_GET_ITEM(o, i) : Py_None;
        PyObject *c = is_atomic(item) ? Py_NewRef(item) : copy(fork, item);
        if (c == NULL) {
            Py_DECREF(fresh); /* unfilled places are NULL, which list deallocation allows */
            return NULL;
        }
        PyList_SET_ITEM(fresh, i, c);
    }
    return fresh;
}

/* Note that `o` is shared after all, so that what leads to it twice looks into it once. */
static PyObject *
shared(Fork *fork, PyObject *o)
{
    return remember(fork, o, o) < 0 ? NULL : Py_NewRef(o);
}

/* A tuple or frozenset is shared unless something in it was copied. */
static PyObject *
copy_tuple(Fork *fork, PyObject *o)
{
    Py_ssize_t n = PyTuple_GET_SIZE(o);
    Py_ssize_t i = 0;
    if (n > 16) { /* a long one that was handed in is not looked through at each fork */
        int outside = outside_has(fork->outside, o);
        if (outside != 0) {
            return outside < 0 ? NULL : Py_NewRef(o);
        }
    }
    while (i < n && PyTuple_GET_ITEM(o, i) != NULL && is_atomic(PyTuple_GET_ITEM(o, i))) {
        i++;
    }
    if (i == n) {
        return Py_NewRef(o);
    }
    PyObject *fresh = PyTuple_New(n);
    if (fresh == NULL) {
        return NULL;
    }
    int changed = 0;
    for (i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(o, i);
        if (item == NULL) { /* zip_longest takes exhausted iterators out of its tuple */
            continue;
        }
        PyObject *c = copy(fork, item);
        if (c == NULL) {
            Py_DECREF(fresh);
            return NULL;
        }
        changed |= c != item;
        PyTuple_SET_ITEM(fresh, i, c);
    }
    PyObject *met = recall(fork, o); /* copied on the way, by a cycle through itself */
    if (met != NULL || !changed) {
        Py_DECREF(fresh);
        return met != NULL ? Py_NewRef(met) : shared(fork, o);
    }
    if (remember(fork, o, fresh) < 0) {
        Py_DECREF(fresh);
        return NULL;
    }
    return fresh;
}

/* Is an object of this type equal to itself only, and hashed by its address? Then its copy takes
   its place as a key, whatever it holds. */
static int
is_known_by_identity(PyTypeObject *type)
{
    return type->tp_hash == PyBaseObject_Type.tp_hash &&
           type->tp_richcompare == PyBaseObject_Type.tp_richcompare;
}

/* Some keys are copied as well: fill the dict anew, in its order. */
static int
refill_dict(Fork *fork, PyObject *o, PyObject *fresh)
{
    PyDict_Clear(fresh);
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(o, &at, &key, &value)) {
        Py_INCREF(value);
        PyObject *k = copy(fork, key), *v = NULL;
        if (k != NULL && k != key && !is_known_by_identity(Py_TYPE(key))) {
            refuse(o, "has a key that the model made and can change");
            Py_CLEAR(k);
        }
        v = k == NULL ? NULL : copy(fork, value);
        int rc = v == NULL ? -1 : PyDict_SetItem(fresh, k, v);
        Py_DECREF(value);
        Py_XDECREF(k);
        Py_XDECREF(v);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
copy_dict(Fork *fork, PyObject *o)
{
    PyObject *fresh = PyDict_Copy(o);
    if (fresh == NULL || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(o, &at, &key, &value)) {
        if (!is_atomic(key)) {
            PyObject *k = copy(fork, key);
            Py_XDECREF(k);
            if (k == NULL || (k != key && refill_dict(fork, o, fresh) < 0)) {
                Py_DECREF(fresh);
                return NULL;
            }
            if (k != key) {
                return fresh;
            }
        }
        if (is_atomic(value)) {
            continue;
        }
        PyObject *c = copy(fork, value);
        if (c == NULL || (c != value && PyDict_SetItem(fresh, key, c) < 0)) {
            Py_XDECREF(c);
            Py_DECREF(fresh);
            return NULL;
        }
        Py_DECREF(c);
    }
    return fresh;
}

/* 0 if a set's members are all shared, -1 with an exception if one would have to be copied. */
static int
check_members(Fork *fork, PyObject *o)
{
    PySetObject *from = (PySetObject *)o;
    for (Py_ssize_t i = 0; i <= from->mask; i++) {
        PyObject *key = from->table[i].key;
        if (key != NULL && from->table[i].hash != -1 && !is_atomic(key)) {
            PyObject *c = copy(fork, key);
            Py_XDECREF(c);
            if (c != key) {
                if (c != NULL) {
                    refuse(o, is_known_by_identity(Py_TYPE(key))
                                  ? "has a member that the model made and that is hashed by its "
                                    "identity, so the set has another order in every run; a dict "
                                    "(dict.fromkeys(...)) keeps its order"
                                  : "has a member that the model made and can change");
                }
                return -1;
            }
        }
    }
    return 0;
}

/* A set's order depends on its history, so the table is copied entry by entry, holes included.
   `fresh` is empty. */
static int
fill_set(PyObject *o, PyObject *fresh)
{
    PySetObject *from = (PySetObject *)o, *to = (PySetObject *)fresh;
    if (from->table != from->smalltable) {
        setentry *table = PyMem_Malloc((size_t)(from->mask + 1) * sizeof(setentry));
        if (table == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        to->table = table;
    }
    memcpy(to->table, from->table, (size_t)(from->mask + 1) * sizeof(setentry));
    for (Py_ssize_t i = 0; i <= from->mask; i++) {
        if (from->table[i].key != NULL && from->table[i].hash != -1) {
            Py_INCREF(from->table[i].key);
        }
    }
    to->fill = from->fill;
    to->used = from->used;
    to->mask = from->mask;
    to->finger = from->finger;
    return 0;
}

static PyObject *
copy_set(Fork *fork, PyObject *o)
{
    PyObject *fresh = check_members(fork, o) < 0 ? NULL : PySet_New(NULL);
    if (fresh == NULL || fill_set(o, fresh) < 0 || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    return fresh;
}

static PyObject *
copy_frozenset(Fork *fork, PyObject *o)
{
    return check_members(fork, o) < 0 ? NULL : shared(fork, o);
}

static PyObject *
copy_bytearray(Fork *fork, PyObject *o)
{
    PyObject *fresh = PyByteArray_FromObject(o);
    if (fresh == NULL || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    return fresh;
}

static PyObject *
copy_cell(Fork *fork, PyObject *o)
{
    PyObject *fresh = PyCell_New(NULL);
    if (fresh == NULL || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    PyObject *held = PyCell_GET(o);
    if (held != NULL) {
        PyObject *c = copy(fork, held);
        if (c == NULL) {
            Py_DECREF(fresh);
            return NULL;
        }
        PyCell_SET(fresh, c);
    }
    return fresh;
}

/* Was the function made by another function as it ran? Then it may be the model's own, and its
   attributes with it. */
static int
is_local_function(PyFunctionObject *f)
{
    return PyUnicode_Find(f->func_qualname, str_locals, 0, PyUnicode_GET_LENGTH(f->func_qualname),
                          1) >= 0;
}

/* A function is copied if the model may have made it, or if something it holds is owned: a cell of
   its closure, a default, an attribute. */
static PyObject *
copy_function(Fork *fork, PyObject *o)
{
    PyFunctionObject *f = (PyFunctionObject *)o;
    int changed = is_local_function(f);
    if (!changed && f->func_closure == NULL && f->func_defaults == NULL &&
        f->func_kwdefaults == NULL &&
        (f->func_dict == NULL || PyDict_GET_SIZE(f->func_dict) == 0)) {
        return Py_NewRef(o);
    }
    /* Annotations are a dict once they were looked at. */
    PyObject *annotations = f->func_annotations != NULL && PyDict_CheckExact(f->func_annotations)
                                ? f->func_annotations
                                : NULL;
    PyObject *from[5] = {f->func_closure, f->func_defaults, f->func_kwdefaults, f->func_dict,
                         annotations};
    PyObject *to[5] = {NULL, NULL, NULL, NULL, NULL};
    PyObject *result = NULL;
    for (int i = 0; i < 5; i++) {
        if (from[i] == NULL || (i >= 2 && !changed && PyDict_GET_SIZE(from[i]) == 0)) {
            continue;
        }
        if (i >= 2 && !changed) { /* a dict of its own: copied only if a value in it is owned */
            Py_ssize_t at = 0;
            PyObject *key, *value;
            int owned = 0;
            while (!owned && PyDict_Next(from[i], &at, &key, &value)) {
                PyObject *c = copy(fork, value);
                if (c == NULL) {
                    goto done;
                }
                owned = c != value;
                Py_DECREF(c);
            }
            if (!owned) {
                continue;
            }
        }
        to[i] = copy(fork, from[i]);
        if (to[i] == NULL) {
            goto done;
        }
        changed |= to[i] != from[i];
    }
    PyObject *met = recall(fork, o);
    if (met != NULL || !changed) {
        result = met != NULL ? Py_NewRef(met) : shared(fork, o);
        goto done;
    }
    PyObject *fresh = PyFunction_NewWithQualName(f->func_code, f->func_globals, f->func_qualname);
    if (fresh == NULL) {
        goto done;
    }
    PyFunctionObject *g = (PyFunctionObject *)fresh;
    PyObject **place[5] = {&g->func_closure, &g->func_defaults, &g->func_kwdefaults, &g->func_dict,
                           &g->func_annotations};
    Py_XSETREF(g->func_annotations, Py_XNewRef(f->func_annotations));
    for (int i = 0; i < (annotations == NULL ? 4 : 5); i++) {
        PyObject *value = to[i] != NULL ? to[i] : from[i];
        Py_XSETREF(*place[i], Py_XNewRef(value));
    }
    Py_XSETREF(g->func_name, Py_NewRef(f->func_name));
    Py_XSETREF(g->func_doc, Py_XNewRef(f->func_doc));
    Py_XSETREF(g->func_module, Py_XNewRef(f->func_module));
    if (remember(fork, o, fresh) < 0) {
        Py_DECREF(fresh);
        goto done;
    }
    result = fresh;
done:
    for (int i = 0; i < 5; i++) {
        Py_XDECREF(to[i]);
    }
    return result;
}

static PyObject *
copy_bound_method(Fork *fork, PyObject *o)
{
    PyObject *self = PyMethod_GET_SELF(o), *function = PyMethod_GET_FUNCTION(o);
    PyObject *s = copy(fork, self);
    PyObject *f = s == NULL ? NULL : copy(fork, function);
    PyObject *result = NULL;
    if (f != NULL) {
        result = s == self && f == function ? Py_NewRef(o) : PyMethod_New(f, s);
    }
    if (result != NULL && remember(fork, o, result) < 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(s);
    Py_XDECREF(f);
    return result;
}

/* `push = xs.append`: a C method bound to an object. */
static PyObject *
copy_builtin_method(Fork *fork, PyObject *o)
{
    PyObject *self = PyCFunction_GET_SELF(o);
    if (self == NULL || is_atomic(self)) {
        return Py_NewRef(o);
    }
    PyObject *s = copy(fork, self);
    if (s == NULL || s == self) {
        Py_XDECREF(s);
        return s == NULL ? NULL : Py_NewRef(o);
    }
    PyCFunctionObject *c = (PyCFunctionObject *)o;
    PyObject *result = PyCMethod_New(c->m_ml, s, c->m_module, PyCFunction_GET_CLASS(o));
    Py_DECREF(s);
    if (result != NULL && remember(fork, o, result) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* --- structs of known shape ------------------------------------------------------------------ */

/* Iterators and exceptions are C structs made of numbers and object references. A copy is the same
   words with each reference re-pointed; the type's own tp_traverse says which words those are. So
   `enumerate` gets an inner iterator of its own, and no struct is typed again here. */

#define MAX_REFERENTS 64 /* tee keeps 57 values in one struct */
#define MAX_WORDS 72

typedef struct {
    PyObject *seen[MAX_REFERENTS];
    PyTypeObject *type; /* visited first by instances of heap types: no word of the struct */
    int n;
} Referents;

static int
collect_referent(PyObject *o, void *arg)
{
    Referents *r = arg;
    if (o == (PyObject *)r->type) {
        r->type = NULL;
        return 0;
    }
    if (r->n == MAX_REFERENTS) {
        return -1;
    }
    r->seen[r->n++] = o;
    return 0;
}

static int
referents_of(PyObject *o, Referents *r)
{
    PyTypeObject *type = Py_TYPE(o);
    r->n = 0;
    r->type = type->tp_flags & Py_TPFLAGS_HEAPTYPE ? type : NULL;
    return PyObject_IS_GC(o) ? type->tp_traverse(o, collect_referent, r) : 0;
}

/* Copies of the fields that a built-in exception or `__slots__` add, or -1. */
static int
copy_exception_fields(Fork *fork, PyObject *o, PyObject *fresh)
{
    PyTypeObject *type = Py_TYPE(o);
    size_t start = (size_t)((PyTypeObject *)PyExc_BaseException)->tp_basicsize;
    if ((size_t)type->tp_basicsize == start) {
        return 0;
    }
    Referents r;
    if (type->tp_itemsize != 0 || type->tp_dictoffset > (Py_ssize_t)start ||
        referents_of(o, &r) != 0) {
        refuse(o, "holds more than the clone expects");
        return -1;
    }
    for (size_t at = start; at < (size_t)type->tp_basicsize; at += sizeof(PyObject *)) {
        if ((Py_ssize_t)at == type->tp_weaklistoffset) {
            continue;
        }
        PyObject **from = (PyObject **)((char *)o + at), **to = (PyObject **)((char *)fresh + at);
        int i = 0;
        while (i < r.n && r.seen[i] != *from) {
            i++;
        }
        if (i == r.n) {
            *to = *from; /* a number, or NULL */
        }
        else if ((*to = copy(fork, *from)) == NULL) {
            return -1;
        }
    }
    return 0;
}

/* An exception kept in a local or being handled. Its traceback is shared: raising adds a new
   entry in front and leaves the old ones as they are. */
static PyObject *
copy_exception(Fork *fork, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyTypeObject *base = (PyTypeObject *)PyExc_BaseException;
    PyBaseExceptionObject *e = (PyBaseExceptionObject *)o;
    PyObject *made = copy(fork, (PyObject *)type);
    if (made == NULL) {
        return NULL;
    }
    Py_DECREF(made);
    PyObject *fresh = base->tp_new(type, e->args, NULL);
    if (fresh == NULL || remember(fork, o, fresh) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    PyBaseExceptionObject *g = (PyBaseExceptionObject *)fresh;
    PyObject *from[5] = {e->args, e->dict, e->notes, e->context, e->cause};
    PyObject **to[5] = {&g->args, &g->dict, &g->notes, &g->context, &g->cause};
    for (int i = 0; i < 5; i++) {
        if (from[i] != NULL) {
            PyObject *c = copy(fork, from[i]);
            if (c == NULL) {
                Py_DECREF(fresh);
                return NULL;
            }
            Py_XSETREF(*to[i], c);
        }
    }
    g->traceback = Py_XNewRef(e->traceback);
    g->suppress_context = e->suppress_context;
    if (copy_exception_fields(fork, o, fresh) < 0) {
        Py_DECREF(fresh);
        return NULL;
    }
    return fresh;
}

/* --- iterators ----------------------------------------------------------------------------- */

/* Does position `i` of a table mean the same in both? Then an iterator's position carries over. */
static int
same_layout(PyObject *from, PyObject *to)
{
    if (PyDict_Check(from)) {
        PyDictObject *a = (PyDictObject *)from, *b = (PyDictObject *)to;
        return a->ma_values == NULL && b->ma_values == NULL &&
               a->ma_keys->dk_nentries == b->ma_keys->dk_nentries;
    }
    return 1; /* copy_set keeps the table, copy_list the order */
}

static PyObject *
copy_iterator(Fork *fork, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    int words = (int)((size_t)type->tp_basicsize - sizeof(PyObject)) / (int)sizeof(PyObject *);
    Referents old;
    if (words > MAX_WORDS || type->tp_itemsize != 0 || referents_of(o, &old) != 0) {
        return refuse(o, "holds more than the clone expects");
    }
    /* Which word of the struct holds which referent? */
    PyObject **from = (PyObject **)((char *)o + sizeof(PyObject));
    int place[MAX_REFERENTS];
    char taken[MAX_WORDS] = {0};
    for (int i = 0; i < old.n; i++) {
        int w = 0;
        while (w < words && (taken[w] || from[w] != old.seen[i])) {
            w++;
        }
        if (w == words) {
            return refuse(o, "keeps its state where the clone does not look");
        }
        taken[w] = 1;
        place[i] = w;
    }
    PyObject *new[MAX_REFERENTS];
    PyObject *fresh = NULL;
    int k = 0;
    while (k < old.n) {
        new[k] = copy(fork, old.seen[k]);
        if (new[k] == NULL) {
            goto done;
        }
        k++;
        if (new[k - 1] != old.seen[k - 1] && !same_layout(old.seen[k - 1], new[k - 1])) {
            refuse(o, "runs over a dict from which entries were deleted");
            goto done;
        }
    }
    PyObject *met = recall(fork, o);
    if (met != NULL) {
        fresh = Py_NewRef(met);
        goto done;
    }
    fresh = PyObject_IS_GC(o) ? (PyObject *)PyObject_GC_New(PyObject, type)
                              : (PyObject *)PyObject_New(PyObject, type);
    if (fresh == NULL) {
        goto done;
    }
    PyObject **to = (PyObject **)((char *)fresh + sizeof(PyObject));
    memcpy(to, from, (size_t)words * sizeof(PyObject *));
    if (type->tp_weaklistoffset > 0) { /* weak references are to the old one */
        *(PyObject **)((char *)fresh + type->tp_weaklistoffset) = NULL;
    }
    for (int i = 0; i < old.n; i++) {
        to[place[i]] = Py_NewRef(new[i]);
    }
    if (PyObject_IS_GC(o)) {
        PyObject_GC_Track(fresh);
    }
    if (remember(fork, o, fresh) < 0) {
        Py_CLEAR(fresh);
    }
done:
    for (int i = 0; i < k; i++) {
        Py_DECREF(new[i]);
    }
    return fresh;
}

/* What it asks with is copied; its distribution and what handlers put there are values. */
static PyObject *
copy_message(Fork *fork, PyObject *o)
{
    static const int held[] = {F_FN, F_VALUE, F_ARGS, F_KWARGS, F_INFER};
    Message *msg = (Message *)o;
    PyObject *fresh = message_copy(msg);
    if (fresh == NULL) {
        return NULL;
    }
    Message *to = (Message *)fresh;
    to->performed = msg->performed;
    to->lent = msg->lent;
    int rc = remember(fork, o, fresh);
    for (size_t i = 0; rc == 0 && i < sizeof(held) / sizeof(held[0]); i++) {
        PyObject *value = msg->field[held[i]];
        if (value != NULL && !is_atomic(value) &&
            (held[i] != F_FN || _PyType_Lookup(Py_TYPE(value), str_fork) != NULL)) {
            PyObject *c = copy(fork, value);
            rc = c == NULL ? -1 : 0;
            Py_XSETREF(to->field[held[i]], c);
        }
    }
    if (rc == 0 && msg->extra != NULL) {
        PyObject *c = copy(fork, msg->extra);
        rc = c == NULL ? -1 : 0;
        Py_XSETREF(to->extra, c);
    }
    if (rc < 0) {
        message_quiet(+1);
        Py_CLEAR(fresh);
        message_quiet(-1);
    }
    return fresh;
}

/* The iterator of `for i in range(n)`, which is numbers only: copied without asking anything. */
static PyObject *
copy_range_iterator(Fork *fork, PyObject *o)
{
    PyObject *fresh = (PyObject *)PyObject_New(PyObject, &PyRangeIter_Type);
    if (fresh == NULL) {
        return NULL;
    }
    memcpy((char *)fresh + sizeof(PyObject), (char *)o + sizeof(PyObject),
           (size_t)PyRangeIter_Type.tp_basicsize - sizeof(PyObject));
    if (Py_REFCNT(o) > 1 && remember(fork, o, fresh) < 0) { /* mostly its loop's alone */
        Py_CLEAR(fresh);
    }
    return fresh;
}

/* --- types that only Python knows ----------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Fork *fork; /* NULL once the fork has ended */
} Proxy;

static PyObject *
proxy_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    Proxy *self = (Proxy *)op;
    PyObject *o;
    if (!PyArg_ParseTuple(args, "O", &o) || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        return NULL;
    }
    if (self->fork == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this memo belongs to a fork that has ended");
        return NULL;
    }
    return copy(self->fork, o);
}

static PyObject *
proxy_record(PyObject *op, PyObject *args)
{
    Proxy *self = (Proxy *)op;
    PyObject *from, *to;
    if (!PyArg_ParseTuple(args, "OO", &from, &to)) {
        return NULL;
    }
    if (self->fork == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this memo belongs to a fork that has ended");
        return NULL;
    }
    if (recall(self->fork, from) == NULL && remember(self->fork, from, to) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
proxy_met(PyObject *op, PyObject *o)
{
    Proxy *self = (Proxy *)op;
    PyObject *met = self->fork == NULL ? NULL : recall(self->fork, o);
    return Py_NewRef(met == NULL ? Py_None : met);
}

static PyObject *
proxy_fill_set(PyObject *op, PyObject *args)
{
    Proxy *self = (Proxy *)op;
    PyObject *from, *to;
    if (!PyArg_ParseTuple(args, "OO", &from, &to)) {
        return NULL;
    }
    if (self->fork == NULL || !PySet_Check(from) || !PySet_Check(to) || PySet_GET_SIZE(to) > 0 ||
        ((PySetObject *)to)->fill > 0) {
        PyErr_SetString(PyExc_TypeError, "a set and an empty set are needed");
        return NULL;
    }
    if (check_members(self->fork, from) < 0 || fill_set(from, to) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
proxy_notes(PyObject *op, void *Py_UNUSED(closure))
{
    Proxy *self = (Proxy *)op;
    if (self->fork == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this memo belongs to a fork that has ended");
        return NULL;
    }
    if (self->fork->notes == NULL && (self->fork->notes = PyDict_New()) == NULL) {
        return NULL;
    }
    return Py_NewRef(self->fork->notes);
}

static PyGetSetDef proxy_getset[] = {
    {"notes", proxy_notes, NULL, "A dict that lives as long as the fork.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef proxy_methods[] = {
    {"met", proxy_met, METH_O, "met(old): the copy that this fork has made of `old`, or None."},
    {"fill_set", proxy_fill_set, METH_VARARGS,
     "fill_set(old, new): fill an empty set, in the order of the old one."},
    {"record", proxy_record, METH_VARARGS,
     "record(old, new): `new` is the copy of `old`; say so before copying what it holds, if that "
     "may lead back to `old`."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ProxyType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Memo",
    .tp_doc = "memo(x) is the copy of x in this fork: x itself where it is shared.",
    .tp_basicsize = sizeof(Proxy),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_call = proxy_call,
    .tp_methods = proxy_methods,
    .tp_getset = proxy_getset,
};

static PyObject *
proxy_of(Fork *fork)
{
    if (fork->proxy == NULL) {
        Proxy *proxy = PyObject_New(Proxy, &ProxyType);
        if (proxy == NULL) {
            return NULL;
        }
        proxy->fork = fork;
        fork->proxy = (PyObject *)proxy;
    }
    return fork->proxy;
}

static void
proxy_close(PyObject *proxy)
{
    ((Proxy *)proxy)->fork = NULL;
    Py_DECREF(proxy);
}

/* What `classify(type)` said, by type: "share", "watch", "holds" (tensors, shared itself),
   "iterate", "count", "group" (iterators), a function (obj, memo) that copies, or a sentence that
   says why not. */
static PyObject *rules, *classify, *copy_tensors;
static PyObject *rule_share, *rule_watch, *rule_iterate, *rule_count, *rule_group, *rule_holds,
    *rule_refuse;
int watching = 0;

static PyObject * /* a new reference */
rule_for(PyTypeObject *type)
{
    PyObject *rule = PyDict_GetItemWithError(rules, (PyObject *)type);
    if (rule != NULL) {
        return Py_NewRef(rule);
    }
    if (!PyErr_Occurred()) {
        if (classify == NULL) {
            return Py_NewRef(rule_refuse);
        }
        PyObject *said = PyObject_CallOneArg(classify, (PyObject *)type);
        if (said != NULL && PyUnicode_CheckExact(said)) {
            PyUnicode_InternInPlace(&said); /* so that rules are compared by identity */
        }
        if (said == NULL) {
            return NULL;
        }
        watching |= said == rule_watch || said == rule_holds;
        /* The table keeps a class alive, so it has no place for those that come and go. */
        int kept = type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE ? 1 : is_global((PyObject *)type);
        if (kept < 0 || (kept && PyDict_SetItem(rules, (PyObject *)type, said) < 0)) {
            Py_CLEAR(said);
        }
        return said;
    }
    return NULL;
}

static PyObject *
copy_by_rule(Fork *fork, PyObject *o)
{
    PyObject *rule = rule_for(Py_TYPE(o));
    if (rule == NULL) {
        return NULL;
    }
    if (rule == rule_watch || rule == rule_holds) {
        Py_DECREF(rule);
        if (!fork->tensors || copy_tensors == NULL) {
            return Py_NewRef(o);
        }
        rule = Py_NewRef(copy_tensors);
    }
    if (rule == rule_share) {
        Py_DECREF(rule);
        return Py_NewRef(o);
    }
    if (rule == rule_iterate || rule == rule_count || rule == rule_group) {
        Py_DECREF(rule); /* these are kept elsewhere as well */
        return rule == rule_iterate ? copy_iterator(fork, o)
               : rule == rule_count ? copy_counting(fork, o)
                                    : copy_grouping(fork, o);
    }
    PyObject *fresh = NULL, *proxy = NULL;
    if (PyUnicode_Check(rule)) {
        PyErr_Format(err_capture, "a %.200s object %U", Py_TYPE(o)->tp_name, rule);
    }
    else if ((proxy = proxy_of(fork)) != NULL) {
        fresh = PyObject_CallFunctionObjArgs(rule, o, proxy, NULL);
    }
    Py_DECREF(rule);
    PyObject *met = fresh == NULL ? NULL : recall(fork, o); /* by a cycle through itself */
    if (met != NULL) {
        Py_SETREF(fresh, Py_NewRef(met));
    }
    else if (fresh != NULL && remember(fork, o, fresh) < 0) {
        Py_CLEAR(fresh);
    }
    return fresh;
}

/* --- one value ----------------------------------------------------------------------------- */

static PyObject *
copy_shape(Fork *fork, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyTuple_Type) {
        return copy_tuple(fork, o);
    }
    if (type == &PyCFunction_Type || type == &PyCMethod_Type) {
        return copy_builtin_method(fork, o);
    }
    if (type == &PyCell_Type && PyCell_GET(o) != NULL) {
        /* `self` in a model that a handler has wrapped: each branch has the handler of its own. */
        PyObject *met = recall(fork, PyCell_GET(o));
        if (met != NULL && met != PyCell_GET(o)) {
            return copy_cell(fork, o);
        }
    }
    /* What is held from one place only is held from here, and not from outside. */
    int outside = Py_REFCNT(o) == 1 ? 0 : outside_has(fork->outside, o);
    if (outside != 0) {
        if (outside > 0 && !PyGen_CheckExact(o) && PyIter_Check(o)) {
            return refuse(o, "is an iterator that was handed to the model from outside, so two "
                             "branches would advance the same one; pass what it runs over");
        }
        if (outside > 0 && PyGen_CheckExact(o) && !compat_gen_is_finished((PyGenObject *)o)) {
            return refuse(o, "was handed to the model from outside, so two branches would "
                             "advance the same one; pass the function that makes it");
        }
        return outside < 0 ? NULL : Py_NewRef(o);
    }
    if (type == &PyRangeIter_Type) {
        return copy_range_iterator(fork, o);
    }
    if (type == &PyList_Type) {
        return copy_list(fork, o);
    }
    if (PyType_Check(o)) {
        return copy_class(o);
    }
    if (type == &PyDict_Type) {
        return copy_dict(fork, o);
    }
    if (type == &PyCell_Type) {
        return copy_cell(fork, o);
    }
    if (type == &PyFunction_Type) {
        return copy_function(fork, o);
    }
    if (type == &PyGen_Type) {
        return copy_generator(fork, o);
    }
    if (type == &PyMethod_Type) {
        return copy_bound_method(fork, o);
    }
    if (type == &PySet_Type) {
        return copy_set(fork, o);
    }
    if (type == &PyFrozenSet_Type) {
        return copy_frozenset(fork, o);
    }
    if (type == &PyByteArray_Type) {
        return copy_bytearray(fork, o);
    }
    if (type == &MessageType) {
        return copy_message(fork, o);
    }
    if (type == &PerformType) {
        PyObject *msg = copy(fork, perform_message(o));
        PyObject *fresh = msg == NULL ? NULL : perform_copy(o, msg);
        Py_XDECREF(msg);
        return fresh;
    }
    if (PyExceptionInstance_Check(o)) {
        return copy_exception(fork, o);
    }
    return copy_by_rule(fork, o);
}

static PyObject *
copy(Fork *fork, PyObject *o)
{
    if (is_atomic(o)) {
        return Py_NewRef(o);
    }
    PyObject *met = recall(fork, o);
    if (met != NULL) {
        return Py_NewRef(met);
    }
    if (fork->depth >= MAX_DEPTH) {
        return refuse(o, "lies too deep in a structure to be copied");
    }
    fork->depth++;
    PyObject *c = copy_shape(fork, o);
    fork->depth--;
    return c;
}

PyObject *
fork_copy(Fork *fork, PyObject *o)
{
    return copy(fork, o);
}

PyObject *
fork_met(Fork *fork, PyObject *o)
{
    return recall(fork, o);
}

int
fork_remember(Fork *fork, PyObject *from, PyObject *to)
{
    return remember(fork, from, to);
}

PyObject *
fork_refuse(PyObject *o, const char *why)
{
    return refuse(o, why);
}

PyObject *
fork_iterator(Fork *fork, PyObject *o)
{
    return copy_iterator(fork, o);
}

/* --- generators ---------------------------------------------------------------------------- */

/* Set just before a suspended generator is dropped: its finalizer then returns at once, and
   deallocation clears the frame. Nothing of the model runs. */
static void
silence(PyGenObject *gen)
{
    gen->gi_frame_state = FRAME_COMPLETED;
}

static PyObject *
copy_generator(Fork *fork, PyObject *o)
{
    PyGenObject *gen = (PyGenObject *)o;
    if (compat_gen_is_finished(gen)) {
        return Py_NewRef(o); /* nothing in it can change any more */
    }
    if (!compat_gen_is_suspended(gen) && !compat_gen_is_created(gen)) {
        return refuse(o, "is running");
    }
    Frame *from = compat_gen_frame(gen);
    PyCodeObject *code = compat_frame_code(from);
    PyGenObject *fresh = PyObject_GC_NewVar(PyGenObject, &PyGen_Type, compat_frame_slots(code));
    if (fresh == NULL) {
        return NULL;
    }
    compat_init_gen_code(fresh, code);
    fresh->gi_weakreflist = NULL;
    fresh->gi_name = Py_NewRef(gen->gi_name);
    fresh->gi_qualname = Py_NewRef(gen->gi_qualname);
    fresh->gi_exc_state.exc_value = NULL;
    fresh->gi_exc_state.previous_item = NULL;
    fresh->gi_origin_or_finalizer = NULL;
    fresh->gi_hooks_inited = 0;
    fresh->gi_closed = 0;
    fresh->gi_running_async = 0;
    fresh->gi_frame_state = (signed char)compat_gen_state(gen);

    Frame *to = compat_gen_frame(fresh);
    memcpy(to, from, offsetof(Frame, localsplus));
    to->frame_obj = NULL;
    to->previous = NULL;
    to->f_locals = NULL;
    Py_INCREF(code);
    Py_XINCREF(compat_frame_function(from));
    memset(to->localsplus, 0, (size_t)from->stacktop * sizeof(PyObject *));

    int slot = EXCEPTION_SLOT;
    if (remember(fork, o, (PyObject *)fresh) < 0) {
        goto failed;
    }
    if (gen->gi_exc_state.exc_value != NULL) {
        fresh->gi_exc_state.exc_value = copy(fork, gen->gi_exc_state.exc_value);
        if (fresh->gi_exc_state.exc_value == NULL) {
            goto failed;
        }
    }
    if (from->f_locals != NULL) { /* the model, or a debugger, has asked for locals() */
        slot = LOCALS_SLOT;
        to->f_locals = copy(fork, from->f_locals);
        if (to->f_locals == NULL) {
            goto failed;
        }
    }
    for (slot = 0; slot < from->stacktop; slot++) {
        PyObject *held = from->localsplus[slot];
        if (held == NULL) {
            continue;
        }
        PyObject *c = is_atomic(held) ? Py_NewRef(held) : copy(fork, held);
        if (c == NULL) {
            goto failed;
        }
        to->localsplus[slot] = c;
    }
    PyObject_GC_Track((PyObject *)fresh);
    return (PyObject *)fresh;

failed:
    locate(fork, from, slot);
    {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        silence(fresh);
        PyObject_GC_Track((PyObject *)fresh);
        Py_DECREF(fresh);
        PyErr_Restore(type, value, traceback);
    }
    return NULL;
}

/* A handler that is copied, and that one of the frames knows as a global: it would go on to read the
   one that it had before. -1 with CaptureError, or 0. */
static int
check_globals(PyObject **frames, Py_ssize_t n, PyObject *handler)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *gen = frames[i];
        while (gen != NULL && PyGen_CheckExact(gen) &&
               compat_gen_is_suspended((PyGenObject *)gen)) {
            Frame *frame = compat_gen_frame((PyGenObject *)gen);
            PyObject *names = compat_frame_code(frame)->co_names;
            for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(names); k++) {
                PyObject *name = PyTuple_GET_ITEM(names, k);
                PyObject *value = PyDict_GetItemWithError(frame->f_globals, name);
                if (value == handler) {
                    PyErr_Format(err_capture,
                                 "the handler %R is the global %R, which branches would share; "
                                 "pass it to the model as an argument, or make it inside",
                                 handler, name);
                    return -1;
                }
                if (value == NULL && PyErr_Occurred()) {
                    return -1;
                }
            }
            gen = frame->stacktop > 0 ? frame->localsplus[frame->stacktop - 1] : NULL;
        }
    }
    return 0;
}

int
fork_computation(PyObject **frames, Py_ssize_t n, PyObject *ambient, PyObject *outside,
                 PyObject *kept, int tensors, PyObject **frames_out, PyObject **ambient_out)
{
    Fork fork;
    fork_begin(&fork, outside);
    fork.tensors = tensors;
    Py_ssize_t done = 0;
    int rc = -1;
    *ambient_out = NULL;
    PyObject *copied = NULL;
    if (kept != NULL && remember(&fork, kept, kept) < 0) {
        goto done;
    }
    /* Handlers first: they are the computation's own even where they are reachable from outside
       (the model wraps them), and every frame that holds one must find its copy in the memo. */
    Py_ssize_t width = PyTuple_GET_SIZE(ambient);
    copied = width == 0 ? Py_NewRef(ambient) : PyTuple_New(width);
    if (copied == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < width; i++) {
        PyObject *handler = PyTuple_GET_ITEM(ambient, i);
        PyObject *met = recall(&fork, handler);
        PyObject *c = met != NULL ? Py_NewRef(met) : copy_by_rule(&fork, handler);
        if (c == NULL) {
            goto done;
        }
        PyTuple_SET_ITEM(copied, i, c);
        if (c != handler && met == NULL) {
            int handed = outside_has(outside, handler);
            if (handed < 0 || (handed && check_globals(frames, n, handler) < 0)) {
                goto done;
            }
        }
    }
    for (; done < n; done++) {
        PyObject *frame = frames[done];
        frames_out[done] = copy(&fork, frame);
        if (frames_out[done] == NULL) {
            goto done;
        }
    }
    *ambient_out = Py_NewRef(copied);
    rc = 0;
done:
    Py_XDECREF(copied);
    if (rc < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        message_quiet(+1);
        silence_copies(&fork);
        while (done > 0) {
            Py_DECREF(frames_out[--done]);
        }
        fork_end(&fork);
        message_quiet(-1);
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    fork_end(&fork);
    return 0;
}

/* The fork has failed: what it copied so far is dropped, and runs nothing. */
static void
silence_copies(Fork *fork)
{
    for (Py_ssize_t i = 0; i < fork->n; i++) {
        PyObject *to = fork->pairs[i].to;
        if (to != fork->pairs[i].from && PyGen_CheckExact(to)) {
            silence((PyGenObject *)to);
        }
    }
}

PyObject *
fork_frame(PyObject *frame, PyObject *outside, int alone, int *aliased)
{
    Fork fork;
    fork_begin(&fork, outside);
    PyObject *fresh = copy(&fork, frame);
    *aliased = fresh != NULL && fork.aliased;
    if (fresh == NULL || (alone && *aliased)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        message_quiet(+1);
        silence_copies(&fork);
        Py_XDECREF(fresh);
        fork_end(&fork);
        message_quiet(-1);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    fork_end(&fork);
    return fresh;
}

/* --- dropping ------------------------------------------------------------------------------ */

/* A suspended generator that is dropped takes along what only it holds: other generators too, in
   its slots, in lists, in cells. Each is marked as having nothing left to run. What is held from
   elsewhere as well goes on living: an object is looked into once every reference to it is
   accounted for. */

typedef struct {
    PyObject *o;
    Py_ssize_t met;
} Account;

#define INLINE_DOOMED 48
#define INLINE_ACCOUNTS 64 /* a power of two */

typedef struct {
    PyObject **doomed; /* a stack: to be looked into */
    Py_ssize_t n_doomed, doomed_room;
    Account *accounts; /* open addressing */
    size_t n_accounts, mask;
    PyObject *inline_doomed[INLINE_DOOMED];
    Account inline_accounts[INLINE_ACCOUNTS];
} Reaper;

static int
reaper_doom(Reaper *r, PyObject *o)
{
    if (r->n_doomed == r->doomed_room) {
        Py_ssize_t room = r->doomed_room * 2;
        PyObject **more = PyMem_Malloc((size_t)room * sizeof(PyObject *));
        if (more == NULL) {
            return -1;
        }
        memcpy(more, r->doomed, (size_t)r->n_doomed * sizeof(PyObject *));
        if (r->doomed != r->inline_doomed) {
            PyMem_Free(r->doomed);
        }
        r->doomed = more;
        r->doomed_room = room;
    }
    r->doomed[r->n_doomed++] = o;
    return 0;
}

static Account *
reaper_account(Reaper *r, PyObject *o)
{
    if (r->n_accounts * 4 > r->mask * 3) {
        size_t size = (r->mask + 1) * 4;
        Account *more = PyMem_Calloc(size, sizeof(Account));
        if (more == NULL) {
            return NULL;
        }
        for (size_t i = 0; i <= r->mask; i++) {
            if (r->accounts[i].o != NULL) {
                size_t j = hash_pointer(r->accounts[i].o) & (size - 1);
                while (more[j].o != NULL) {
                    j = (j + 1) & (size - 1);
                }
                more[j] = r->accounts[i];
            }
        }
        if (r->accounts != r->inline_accounts) {
            PyMem_Free(r->accounts);
        }
        r->accounts = more;
        r->mask = size - 1;
    }
    size_t i = hash_pointer(o) & r->mask;
    while (r->accounts[i].o != NULL && r->accounts[i].o != o) {
        i = (i + 1) & r->mask;
    }
    if (r->accounts[i].o == NULL) {
        r->accounts[i].o = o;
        r->n_accounts++;
    }
    return &r->accounts[i];
}

static int
reaper_visit(PyObject *o, void *arg)
{
    Reaper *r = arg;
    if (o == NULL || is_atomic(o) || !PyObject_IS_GC(o) || PyType_Check(o)) {
        return 0;
    }
    if (Py_REFCNT(o) > 1) {
        Account *account = reaper_account(r, o);
        if (account == NULL) {
            return -1;
        }
        if (++account->met != Py_REFCNT(o)) {
            return 0;
        }
    }
    return reaper_doom(r, o);
}

static void
reaper_begin(Reaper *r)
{
    r->doomed = r->inline_doomed;
    r->doomed_room = INLINE_DOOMED;
    r->n_doomed = 0;
    r->accounts = r->inline_accounts;
    r->mask = INLINE_ACCOUNTS - 1;
    r->n_accounts = 0;
    memset(r->inline_accounts, 0, sizeof(r->inline_accounts));
}

/* Silence the generators in reach, or, with a list, freeze them and note them there. */
static int
reaper_run(Reaper *r, PyObject *frozen)
{
    int rc = 0;
    while (rc == 0 && r->n_doomed > 0) {
        PyObject *o = r->doomed[--r->n_doomed];
        int is_gen = PyGen_CheckExact(o);
        if (is_gen) {
            PyGenObject *gen = (PyGenObject *)o;
            if ((!compat_gen_is_suspended(gen) && !compat_gen_is_created(gen)) ||
                (frozen != NULL && compat_gen_is_frozen(gen))) {
                continue;
            }
        }
        traverseproc traverse = Py_TYPE(o)->tp_traverse;
        if (PyList_CheckExact(o)) { /* a long list of atoms is soon looked through */
            for (Py_ssize_t i = 0; i < PyList_GET_SIZE(o) && rc == 0; i++) {
                PyObject *item = PyList_GET_ITEM(o, i);
                rc = item == NULL || is_atomic(item) ? 0 : reaper_visit(item, r);
            }
        }
        else if (traverse != NULL && traverse(o, reaper_visit, r) < 0) {
            rc = -1; /* out of memory: what was not reached may run its clean-up */
        }
        if (is_gen && frozen == NULL) {
            silence((PyGenObject *)o);
        }
        else if (is_gen && rc == 0) {
            rc = PyList_Append(frozen, o);
            if (rc == 0) {
                compat_gen_freeze((PyGenObject *)o);
            }
        }
    }
    if (r->doomed != r->inline_doomed) {
        PyMem_Free(r->doomed);
    }
    if (r->accounts != r->inline_accounts) {
        PyMem_Free(r->accounts);
    }
    return rc;
}

/* The frames may be in reach of themselves, so they are silenced whoever holds them: a branch that
   is given up does not run on. */
void
silence_frames(PyObject **frames, Py_ssize_t n)
{
    Reaper r;
    reaper_begin(&r);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (frames[i] != NULL && PyGen_CheckExact(frames[i])) {
            reaper_doom(&r, frames[i]);
        }
    }
    reaper_run(&r, NULL);
}

int
holds_atoms_only(PyObject *o)
{
    PyGenObject *gen = (PyGenObject *)o;
    if (!PyGen_CheckExact(o) || !compat_gen_is_suspended(gen) ||
        gen->gi_exc_state.exc_value != NULL) {
        return 0;
    }
    Frame *frame = compat_gen_frame(gen);
    if (frame->f_locals != NULL) {
        return 0;
    }
    for (int i = 0; i < frame->stacktop; i++) {
        PyObject *held = frame->localsplus[i];
        if (held != NULL && !is_atomic(held) && Py_TYPE(held) != &PyRangeIter_Type) {
            return 0;
        }
    }
    return 1;
}

void
discard_frame(PyObject *frame)
{
    if (frame == NULL) {
        return;
    }
    if (holds_atoms_only(frame)) {
        silence((PyGenObject *)frame);
        Py_DECREF(frame);
        return;
    }
    message_quiet(+1);
    silence_frames(&frame, 1);
    Py_DECREF(frame);
    message_quiet(-1);
}

/* --- watching ------------------------------------------------------------------------------ */

/* Tensors are shared between branches. So that a change in place by one branch is not seen by
   another, their version counters are read when a computation is suspended and compared when it
   is resumed. */

typedef struct {
    Fork seen;       /* used as a set and as a queue: what was met, in the order of meeting */
    PyObject *found; /* list: tensor, version, tensor, version, ...; NULL while there is none */
} Scan;

static int
scan_visit(PyObject *o, void *arg)
{
    Scan *s = arg;
    if (o == NULL || is_atomic(o) || Py_TYPE(o) == &MessageType ||
        recall(&s->seen, o) != NULL) {
        return 0;
    }
    return remember(&s->seen, o, Py_None);
}

static int
scan_watched(Scan *s, PyObject *tensor)
{
    if (s->found == NULL && (s->found = PyList_New(0)) == NULL) {
        return -1;
    }
    PyObject *version = PyObject_GetAttr(tensor, str_version);
    if (version == NULL) {
        PyErr_Clear(); /* an inference tensor has no counter, and cannot be watched */
        version = Py_NewRef(Py_None);
    }
    int rc = PyList_Append(s->found, tensor) < 0 || PyList_Append(s->found, version) < 0;
    Py_DECREF(version);
    return rc ? -1 : 0;
}

/* Visit what `o` refers to, if the computation made it; note it, if it is watched. */
static int
scan(Scan *s, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type != &PyTuple_Type && type != &PyGen_Type && type != &PyList_Type &&
        type != &PyDict_Type && type != &PyCell_Type && type != &PyFunction_Type &&
        type != &PyMethod_Type && type != &PyCFunction_Type && !PyExceptionInstance_Check(o)) {
        PyObject *rule = rule_for(type);
        if (rule == NULL) {
            return -1;
        }
        Py_DECREF(rule); /* these are kept elsewhere as well */
        if (rule == rule_watch) {
            return scan_watched(s, o);
        }
        if (rule == rule_share || _PyType_Lookup(type, str_opaque) != NULL) {
            return 0;
        }
    }
    int outside = outside_has(s->seen.outside, o);
    if (outside != 0) {
        return outside < 0 ? -1 : 0;
    }
    if (type == &PyFunction_Type) { /* not its globals */
        PyFunctionObject *f = (PyFunctionObject *)o;
        return scan_visit(f->func_closure, s) < 0 || scan_visit(f->func_defaults, s) < 0 ? -1 : 0;
    }
    if (PyExceptionInstance_Check(o)) { /* not the frames of its traceback */
        return scan_visit(((PyBaseExceptionObject *)o)->args, s);
    }
    return type->tp_traverse == NULL || !PyObject_IS_GC(o) ? 0
                                                           : type->tp_traverse(o, scan_visit, s);
}

int
is_shared(PyObject *o)
{
    PyObject *rule = rule_for(Py_TYPE(o));
    Py_XDECREF(rule); /* rule_share is kept elsewhere as well */
    return rule == NULL ? -1 : rule == rule_share;
}

int
is_watched(PyObject *o)
{
    PyObject *rule = rule_for(Py_TYPE(o));
    Py_XDECREF(rule); /* rule_watch is kept elsewhere as well */
    return rule == NULL ? -1 : rule == rule_watch;
}

PyObject *
watch_computation(PyObject **frames, Py_ssize_t n, PyObject *ambient, PyObject *outside)
{
    Scan s;
    s.found = NULL;
    fork_begin(&s.seen, outside);
    int rc = 0;
    /* A handler with a state that was made outside can be entered by another branch as well. */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(ambient) && rc == 0; i++) {
        PyObject *handler = PyTuple_GET_ITEM(ambient, i);
        PyObject *rule = rule_for(Py_TYPE(handler));
        Py_XDECREF(rule); /* rule_share is kept elsewhere as well */
        if (rule == NULL) {
            rc = -1;
        }
        else if (rule != rule_share && _PyType_Lookup(Py_TYPE(handler), str_opaque) == NULL) {
            int outside_it = outside_has(outside, handler);
            rc = outside_it < 0 ? -1
                 : outside_it   ? scan_watched(&s, handler)
                                : scan_visit(handler, &s);
        }
    }
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        rc = scan_visit(frames[i], &s);
    }
    for (Py_ssize_t i = 0; i < s.seen.n && rc == 0; i++) {
        rc = scan(&s, s.seen.pairs[i].from);
    }
    fork_end(&s.seen);
    if (rc != 0) {
        Py_CLEAR(s.found);
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
    }
    return s.found;
}

/* Has the tensor been lent to NumPy? What is written through an array is not counted as a version,
   but from then on the tensor's memory can no longer grow. */
static int
is_lent_to_numpy(PyObject *tensor)
{
    if (_PyType_Lookup(Py_TYPE(tensor), str_untyped_storage) == NULL) {
        return 0; /* a handler */
    }
    PyObject *storage = PyObject_CallMethodNoArgs(tensor, str_untyped_storage);
    PyObject *free = storage == NULL ? NULL : PyObject_CallMethodNoArgs(storage, str_resizable);
    Py_XDECREF(storage);
    if (free == NULL) {
        PyErr_Clear(); /* no plain memory: nothing is promised */
        return 1;
    }
    int lent = free != Py_True;
    Py_DECREF(free);
    return lent;
}

int
watch_holds(PyObject *watch)
{
    for (Py_ssize_t i = 0; i + 1 < PyList_GET_SIZE(watch); i += 2) {
        PyObject *watched = PyList_GET_ITEM(watch, i), *then = PyList_GET_ITEM(watch, i + 1);
        if (then == Py_None) {
            return 0; /* it cannot be watched, so nothing is promised */
        }
        PyObject *now = PyObject_GetAttr(watched, str_version);
        if (now == NULL) {
            return -1;
        }
        int same = PyObject_RichCompareBool(now, then, Py_EQ);
        Py_DECREF(now);
        if (same <= 0) {
            return same;
        }
        if (is_lent_to_numpy(watched)) {
            return 0;
        }
    }
    return 1;
}

/* --- for Python ---------------------------------------------------------------------------- */

static int
split_frames(PyObject *frames, PyObject ***items, Py_ssize_t *n)
{
    if (!PyList_Check(frames)) {
        PyErr_SetString(PyExc_TypeError, "frames must be a list");
        return -1;
    }
    *items = ((PyListObject *)frames)->ob_item;
    *n = PyList_GET_SIZE(frames);
    return 0;
}

static PyObject *
native_fork(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *frames, *ambient, *outside = NULL, *kept = Py_None, **items;
    int tensors = 0;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "O!O!|OOp", &PyList_Type, &frames, &PyTuple_Type, &ambient,
                          &outside, &kept, &tensors) ||
        split_frames(frames, &items, &n) < 0) {
        return NULL;
    }
    if (outside != NULL && outside != Py_None && !Py_IS_TYPE(outside, &OutsideType)) {
        PyErr_SetString(PyExc_TypeError, "outside must be an Outside or None");
        return NULL;
    }
    PyObject **fresh = PyMem_Calloc((size_t)n + 1, sizeof(PyObject *));
    if (fresh == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *result = NULL, *ambient_copy, *list = PyTuple_New(n);
    /* `frames` may be changed by Python code that runs meanwhile: hold on to what it has now. */
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyTuple_SET_ITEM(list, i, Py_NewRef(items[i]));
    }
    if (list != NULL && fork_computation(((PyTupleObject *)list)->ob_item, n, ambient, outside,
                                         kept == Py_None ? NULL : kept, tensors, fresh,
                                         &ambient_copy) == 0) {
        PyObject *frames_copy = PyList_New(n);
        if (frames_copy != NULL) {
            for (Py_ssize_t i = 0; i < n; i++) {
                PyList_SET_ITEM(frames_copy, i, fresh[i]);
            }
            result = PyTuple_Pack(2, frames_copy, ambient_copy);
            Py_DECREF(frames_copy);
        }
        Py_DECREF(ambient_copy);
    }
    Py_XDECREF(list);
    PyMem_Free(fresh);
    return result;
}

static void
thaw_all(PyObject *frozen)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(frozen); i++) {
        PyGenObject *gen = (PyGenObject *)PyList_GET_ITEM(frozen, i);
        if (compat_gen_is_frozen(gen)) {
            compat_gen_thaw(gen);
        }
    }
}

/* Suspended frames that lie in store are frozen, with the generators that only they hold. A cycle
   through them can then be collected in any order: no finalizer finds anything to run. */
static PyObject *
native_freeze(PyObject *Py_UNUSED(module), PyObject *frames)
{
    if (!PyList_Check(frames)) {
        PyErr_SetString(PyExc_TypeError, "frames must be a list");
        return NULL;
    }
    PyObject *frozen = PyList_New(0);
    if (frozen == NULL) {
        return NULL;
    }
    Reaper r;
    reaper_begin(&r);
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(frames); i++) {
        if (PyGen_CheckExact(PyList_GET_ITEM(frames, i))) {
            rc = reaper_doom(&r, PyList_GET_ITEM(frames, i));
        }
    }
    if (reaper_run(&r, frozen) < 0 || rc < 0) {
        thaw_all(frozen);
        Py_DECREF(frozen);
        return PyErr_NoMemory();
    }
    return frozen;
}

static PyObject *
native_thaw(PyObject *Py_UNUSED(module), PyObject *frozen)
{
    if (!PyList_Check(frozen)) {
        PyErr_SetString(PyExc_TypeError, "what freeze() gave is needed");
        return NULL;
    }
    thaw_all(frozen);
    Py_RETURN_NONE;
}

static PyObject *
native_discard(PyObject *Py_UNUSED(module), PyObject *frames)
{
    if (!PyList_Check(frames)) {
        PyErr_SetString(PyExc_TypeError, "frames must be a list");
        return NULL;
    }
    silence_frames(((PyListObject *)frames)->ob_item, PyList_GET_SIZE(frames));
    /* Innermost first: a frame further out may be the last to hold an object of an inner one. */
    while (PyList_GET_SIZE(frames) > 0) {
        Py_ssize_t last = PyList_GET_SIZE(frames) - 1;
        PyObject *frame = Py_NewRef(PyList_GET_ITEM(frames, last));
        if (PyList_SetSlice(frames, last, last + 1, NULL) < 0) {
            Py_DECREF(frame);
            return NULL;
        }
        discard_frame(frame);
    }
    Py_RETURN_NONE;
}

static PyObject *
native_fork_again(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *frame;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "O!n", &PyGen_Type, &frame, &n)) {
        return NULL;
    }
    for (; n > 0; n--) {
        int aliased;
        PyObject *fresh = fork_frame(frame, NULL, 0, &aliased);
        if (fresh == NULL) {
            return NULL;
        }
        discard_frame(fresh);
    }
    Py_RETURN_NONE;
}

/* Where a suspended generator waits: (address of its code, byte offset). A frozen one shows no frame
   to Python from 3.12 on. */
static PyObject *
native_place(PyObject *Py_UNUSED(module), PyObject *o)
{
    if (!PyGen_CheckExact(o) || compat_gen_is_finished((PyGenObject *)o)) {
        PyErr_SetString(PyExc_TypeError, "a suspended generator is needed");
        return NULL;
    }
    Frame *frame = compat_gen_frame((PyGenObject *)o);
    return Py_BuildValue("(Ni)", PyLong_FromVoidPtr(compat_frame_code(frame)),
                         compat_frame_lasti(frame));
}

static PyObject *
native_watch(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *frames, *ambient, *outside = NULL, **items;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "O!O!|O", &PyList_Type, &frames, &PyTuple_Type, &ambient,
                          &outside) ||
        split_frames(frames, &items, &n) < 0) {
        return NULL;
    }
    PyObject *found = watch_computation(items, n, ambient, outside);
    if (found == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return found;
}

static PyObject *
native_watch_holds(PyObject *Py_UNUSED(module), PyObject *watch)
{
    if (watch == Py_None) {
        Py_RETURN_TRUE;
    }
    if (!PyList_Check(watch)) {
        PyErr_SetString(PyExc_TypeError, "what watch() gave is needed");
        return NULL;
    }
    int holds = watch_holds(watch);
    return holds < 0 ? NULL : PyBool_FromLong(holds);
}

static PyObject *
set_rules(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *is_global_function, *table, *tensors;
    if (!PyArg_ParseTuple(args, "OOO!O", &function, &is_global_function, &PyDict_Type, &table,
                          &tensors)) {
        return NULL;
    }
    Py_XSETREF(classify, Py_NewRef(function));
    Py_XSETREF(is_global_class, Py_NewRef(is_global_function));
    Py_XSETREF(copy_tensors, Py_NewRef(tensors));
    PySet_Clear(known_classes);
    PyDict_Clear(rules);
    Py_ssize_t at = 0;
    PyObject *type, *rule;
    while (PyDict_Next(table, &at, &type, &rule)) {
        Py_INCREF(rule);
        if (PyUnicode_CheckExact(rule)) {
            PyUnicode_InternInPlace(&rule);
        }
        int rc = PyDict_SetItem(rules, type, rule);
        Py_DECREF(rule);
        if (rc < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef clone_functions[] = {
    {"fork", native_fork, METH_VARARGS,
     "fork(frames, ambient, outside=None, kept=None, tensors=False) -> (frames, ambient): copies of "
     "suspended generators and of the handlers on their stack, made with one memo.\n\n`kept` is "
     "an entry of the handler stack that is not copied; with `tensors`, tensors are copied and not "
     "shared. Raises CaptureError where something "
     "cannot be copied; nothing has changed then."},
    {"freeze", native_freeze, METH_O,
     "freeze(frames): until thaw() gets what this returns, nothing can run the frames."},
    {"thaw", native_thaw, METH_O, "thaw(frozen): what freeze() froze can go on."},
    {"discard", native_discard, METH_O,
     "discard(frames): empty the list, dropping suspended generators without running them."},
    {"place", native_place, METH_O, "Where a suspended generator waits: (id of its code, offset)."},
    {"fork_again", native_fork_again, METH_VARARGS,
     "fork_again(frame, n): fork a suspended generator n times, each copy dropped at once, as the "
     "explorer does it; for benchmarks."},
    {"watch", native_watch, METH_VARARGS,
     "watch(frames, ambient, outside=None): what the frames share and have to watch, or None."},
    {"watch_holds", native_watch_holds, METH_O,
     "watch_holds(watch): has nothing that was watched changed since?"},
    {"set_rules", set_rules, METH_VARARGS,
     "set_rules(classify, is_global, table, copy_tensors): how instances of types that C does not "
     "know are forked."},
    {NULL, NULL, 0, NULL},
};

int
clone_ready(PyObject *module)
{
    rules = PyDict_New();
    known_classes = PySet_New(NULL);
    rule_share = PyUnicode_InternFromString("share");
    rule_watch = PyUnicode_InternFromString("watch");
    rule_iterate = PyUnicode_InternFromString("iterate");
    rule_count = PyUnicode_InternFromString("count");
    rule_group = PyUnicode_InternFromString("group");
    rule_holds = PyUnicode_InternFromString("holds");
    rule_refuse = PyUnicode_InternFromString("has no rule that says how a fork copies it");
    str_opaque = PyUnicode_InternFromString("fork_opaque");
    str_fork = PyUnicode_InternFromString("__fork__");
    str_version = PyUnicode_InternFromString("_version");
    str_locals = PyUnicode_InternFromString("<locals>");
    str_untyped_storage = PyUnicode_InternFromString("untyped_storage");
    str_resizable = PyUnicode_InternFromString("resizable");
    if (rules == NULL || known_classes == NULL || rule_share == NULL || rule_watch == NULL || rule_iterate == NULL || rule_count == NULL || rule_group == NULL || rule_holds == NULL ||
        rule_refuse == NULL || str_opaque == NULL || str_fork == NULL || str_version == NULL || str_locals == NULL ||
        str_untyped_storage == NULL || str_resizable == NULL ||
        PyType_Ready(&ProxyType) < 0 ||
        PyModule_AddObjectRef(module, "SHARE", rule_share) < 0 ||
        PyModule_AddObjectRef(module, "WATCH", rule_watch) < 0 ||
        PyModule_AddObjectRef(module, "ITERATE", rule_iterate) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, clone_functions);
}
