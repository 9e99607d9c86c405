/* message.c: the request that a model yields, which is also the message that the handlers see.

   To a handler it is the seed's dictionary: fourteen keys with defaults, and any key that a handler
   adds. To a model it is a request to be yielded, once. Between the two stands `performed`: until
   the machine has taken the request, using it as if it were the value it asks for is an error that
   shows the line to write, and letting it die is reported to the machine that runs the model.

   Absent fields are NULL and mean the default, so that building a request costs one allocation from
   a free list. The place where it was written is kept as (code, offset) and turned into a line only
   when somebody asks. */

#include "native.h"

static const char *const field_text[N_FIELDS] = {
    "type", "name", "fn", "value", "is_observed", "args", "kwargs", "infer", "done", "stop",
    "scale", "mask", "continuation", "cond_indep_stack",
};
static PyObject *field_name[N_FIELDS];
static PyObject *empty_tuple, *float_one, *field_tuple;
static PyObject *str_obs, *str_infer;
PyObject *str_sample;

#define FREE_LIST 64
static Message *free_list[FREE_LIST];
static int n_free = 0;

/* A request that died unperformed on this thread, told in words, until a machine asks. */
static _Thread_local PyObject *dropped = NULL;
static _Thread_local int quiet = 0;
static _Thread_local int machines = 0; /* machines running on this thread */

void
message_quiet(int change)
{
    quiet += change;
}

static Message *
message_alloc(void)
{
    Message *msg;
    if (n_free > 0) {
        msg = free_list[--n_free];
        _Py_NewReference((PyObject *)msg);
    }
    else {
        msg = PyObject_GC_New(Message, &MessageType);
        if (msg == NULL) {
            return NULL;
        }
    }
    memset(msg->field, 0, sizeof(msg->field));
    msg->extra = NULL;
    msg->birth_code = NULL;
    msg->performed = 0;
    msg->lent = 0;
    return msg;
}

static void
message_born_here(Message *msg)
{
    Frame *frame = compat_current_frame();
    if (frame != NULL) {
        msg->birth_code = (PyCodeObject *)Py_NewRef(compat_frame_code(frame));
        msg->birth_lasti = compat_frame_lasti(frame);
    }
}

/* --- fields -------------------------------------------------------------------------------- */

static int
field_of(PyObject *key)
{
    for (int i = 0; i < N_FIELDS; i++) {
        if (field_name[i] == key) {
            return i;
        }
    }
    if (PyUnicode_Check(key) && !PyUnicode_CHECK_INTERNED(key)) {
        for (int i = 0; i < N_FIELDS; i++) {
            if (PyUnicode_Compare(field_name[i], key) == 0) {
                return i;
            }
        }
    }
    return -1;
}

/* The value of a field; the two mutable defaults are made when first asked for. New reference. */
static PyObject *
get_field(Message *msg, int i)
{
    PyObject *value = msg->field[i];
    if (value != NULL) {
        return Py_NewRef(value);
    }
    switch (i) {
    case F_ARGS:
    case F_COND_INDEP_STACK:
        return Py_NewRef(empty_tuple);
    case F_KWARGS:
    case F_INFER:
        value = PyDict_New();
        msg->field[i] = Py_XNewRef(value);
        return value;
    case F_IS_OBSERVED:
    case F_DONE:
    case F_STOP:
        return Py_NewRef(Py_False);
    case F_SCALE:
        return Py_NewRef(float_one);
    default:
        return Py_NewRef(Py_None);
    }
}

static PyObject *
describe(Message *msg)
{
    PyObject *type = msg->field[F_TYPE], *name = msg->field[F_NAME];
    return PyUnicode_FromFormat("%S(%R, ...)", type ? type : Py_None, name ? name : Py_None);
}

static PyObject *
birth_place(Message *msg)
{
    if (msg->birth_code == NULL) {
        return PyUnicode_FromString("an unknown place");
    }
    return PyUnicode_FromFormat("%U:%d, in %U", msg->birth_code->co_filename,
                                PyCode_Addr2Line(msg->birth_code, msg->birth_lasti),
                                msg->birth_code->co_qualname);
}

/* What to say of a request that was not yielded. */
static PyObject *
unperformed_text(Message *msg, const char *what)
{
    PyObject *request = describe(msg);
    PyObject *place = request == NULL ? NULL : birth_place(msg);
    PyObject *text =
        place == NULL ? NULL
                      : PyUnicode_FromFormat(
                            "the effect %U built at %U %s: an effect happens when the model yields "
                            "it. Write `x = yield %U` (or `x = yield from %U`).",
                            request, place, what, request, request);
    Py_XDECREF(request);
    Py_XDECREF(place);
    return text;
}

/* --- misuse -------------------------------------------------------------------------------- */

static PyObject *
used_as_value(Message *msg)
{
    PyObject *text = msg->performed == 1
                         ? PyUnicode_FromString("an effect message is no number; its value is "
                                                "message[\"value\"]")
                         : unperformed_text(msg, "was used as if it were its value");
    if (text != NULL) {
        msg->performed |= !msg->performed ? 2 : 0; /* said once: do not report the drop as well */
        PyErr_SetObject(err_unperformed, text);
        Py_DECREF(text);
    }
    return NULL;
}

static PyObject *
misuse_unary(PyObject *self)
{
    return used_as_value((Message *)self);
}

static PyObject *
misuse_binary(PyObject *a, PyObject *b)
{
    return used_as_value((Message *)(Message_CheckExact(a) ? a : b));
}

static PyObject *
misuse_ternary(PyObject *a, PyObject *b, PyObject *c)
{
    return used_as_value((Message *)(Message_CheckExact(a)   ? a
                                     : Message_CheckExact(b) ? b
                                                             : c));
}

static int
misuse_bool(PyObject *self)
{
    Message *msg = (Message *)self;
    if (msg->performed == 1) {
        return 1;
    }
    used_as_value(msg);
    return -1;
}

static PyObject *
message_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return used_as_value((Message *)self);
}

static Py_hash_t
message_hash(PyObject *self)
{
    if (((Message *)self)->performed != 1) {
        used_as_value((Message *)self);
        return -1;
    }
    return _Py_HashPointer(self);
}

static PyObject *
message_compare(PyObject *a, PyObject *b, int op)
{
    Message *msg = (Message *)a;
    if (a != b && msg->performed != 1) {
        return used_as_value(msg);
    }
    if (op == Py_EQ || op == Py_NE) {
        return PyBool_FromLong((a == b) == (op == Py_EQ));
    }
    Py_RETURN_NOTIMPLEMENTED;
}

static PyObject *
message_getattr(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value == NULL && ((Message *)self)->performed == 0 &&
        PyErr_ExceptionMatches(PyExc_AttributeError) && PyUnicode_Check(name) &&
        PyUnicode_GET_LENGTH(name) > 0 && PyUnicode_READ_CHAR(name, 0) != '_') {
        PyErr_Clear();
        return used_as_value((Message *)self);
    }
    return value;
}

static PyNumberMethods message_number = {
    .nb_add = misuse_binary,
    .nb_subtract = misuse_binary,
    .nb_multiply = misuse_binary,
    .nb_remainder = misuse_binary,
    .nb_divmod = misuse_binary,
    .nb_power = misuse_ternary,
    .nb_negative = misuse_unary,
    .nb_positive = misuse_unary,
    .nb_absolute = misuse_unary,
    .nb_bool = misuse_bool,
    .nb_invert = misuse_unary,
    .nb_lshift = misuse_binary,
    .nb_rshift = misuse_binary,
    .nb_and = misuse_binary,
    .nb_xor = misuse_binary,
    .nb_or = misuse_binary,
    .nb_int = misuse_unary,
    .nb_float = misuse_unary,
    .nb_index = misuse_unary,
    .nb_floor_divide = misuse_binary,
    .nb_true_divide = misuse_binary,
    .nb_matrix_multiply = misuse_binary,
};

/* torch asks its arguments for this, so `torch.exp(x)` gives the same error as `x + 1`. */
static PyObject *
message_torch_function(PyObject *Py_UNUSED(cls), PyObject *args)
{
    PyObject *operands = PyTuple_GET_SIZE(args) > 2 ? PyTuple_GET_ITEM(args, 2) : args;
    if (PyTuple_Check(operands)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(operands); i++) {
            if (Message_CheckExact(PyTuple_GET_ITEM(operands, i))) {
                return used_as_value((Message *)PyTuple_GET_ITEM(operands, i));
            }
        }
    }
    PyErr_SetString(err_unperformed, "an effect request was given to torch as if it were its "
                                     "value; yield it first: x = yield sample(...)");
    return NULL;
}

/* --- the mapping ---------------------------------------------------------------------------- */

static int
is_key(PyObject *key)
{
    return PyUnicode_Check(key);
}

static PyObject *
message_subscript(PyObject *self, PyObject *key)
{
    Message *msg = (Message *)self;
    if (msg->performed == 0 && !is_key(key)) {
        return used_as_value(msg);
    }
    int i = field_of(key);
    if (i >= 0) {
        return get_field(msg, i);
    }
    PyObject *value = msg->extra == NULL ? NULL : PyDict_GetItemWithError(msg->extra, key);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return Py_XNewRef(value);
}

static int
message_assign(PyObject *self, PyObject *key, PyObject *value)
{
    Message *msg = (Message *)self;
    int i = field_of(key);
    if (i >= 0) {
        if (value == NULL) {
            PyErr_Format(PyExc_KeyError, "the field %R of a message cannot be deleted", key);
            return -1;
        }
        Py_XSETREF(msg->field[i], Py_NewRef(value));
        return 0;
    }
    if (value == NULL) {
        if (msg->extra == NULL) {
            PyErr_SetObject(PyExc_KeyError, key);
            return -1;
        }
        return PyDict_DelItem(msg->extra, key);
    }
    if (msg->extra == NULL && (msg->extra = PyDict_New()) == NULL) {
        return -1;
    }
    return PyDict_SetItem(msg->extra, key, value);
}

static Py_ssize_t
message_length(PyObject *self)
{
    Message *msg = (Message *)self;
    if (msg->performed == 0) {
        used_as_value(msg);
        return -1;
    }
    return N_FIELDS + (msg->extra == NULL ? 0 : PyDict_GET_SIZE(msg->extra));
}

static int
message_contains(PyObject *self, PyObject *key)
{
    Message *msg = (Message *)self;
    if (msg->performed == 0 && !is_key(key)) {
        used_as_value(msg);
        return -1;
    }
    if (field_of(key) >= 0) {
        return 1;
    }
    return msg->extra == NULL ? 0 : PyDict_Contains(msg->extra, key);
}

static PyMappingMethods message_mapping = {
    .mp_length = message_length,
    .mp_subscript = message_subscript,
    .mp_ass_subscript = message_assign,
};

static PySequenceMethods message_sequence = {
    .sq_contains = message_contains,
};

static PyObject *
message_keys(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Message *msg = (Message *)self;
    PyObject *keys = PySequence_List(field_tuple);
    if (keys != NULL && msg->extra != NULL) {
        PyObject *more = PyDict_Keys(msg->extra);
        if (more == NULL || PyList_SetSlice(keys, N_FIELDS, N_FIELDS, more) < 0) {
            Py_CLEAR(keys);
        }
        Py_XDECREF(more);
    }
    return keys;
}

static PyObject *
message_as_dict(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Message *msg = (Message *)self;
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < N_FIELDS; i++) {
        PyObject *value = get_field(msg, i);
        if (value == NULL || PyDict_SetItem(dict, field_name[i], value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    if (dict != NULL && msg->extra != NULL && PyDict_Update(dict, msg->extra) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
dict_view(PyObject *self, const char *method)
{
    PyObject *dict = message_as_dict(self, NULL);
    PyObject *view = dict == NULL ? NULL : PyObject_CallMethod(dict, method, NULL);
    Py_XDECREF(dict);
    return view;
}

static PyObject *
message_values(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return dict_view(self, "values");
}

static PyObject *
message_items(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return dict_view(self, "items");
}

static PyObject *
message_get(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n < 1 || n > 2) {
        PyErr_SetString(PyExc_TypeError, "get(key, default=None)");
        return NULL;
    }
    int has = message_contains(self, args[0]);
    if (has < 0) {
        return NULL;
    }
    return has ? message_subscript(self, args[0]) : Py_NewRef(n == 2 ? args[1] : Py_None);
}

static PyObject *
message_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    PyObject *value = message_get(self, args, n);
    if (value != NULL && message_contains(self, args[0]) == 0 &&
        message_assign(self, args[0], value) < 0) {
        Py_CLEAR(value);
    }
    return value;
}

static int
message_fill(Message *msg, PyObject *dict)
{
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (message_assign((PyObject *)msg, key, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
message_update(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *dict = PyDict_New();
    PyObject *update = dict == NULL ? NULL : PyObject_GetAttrString(dict, "update");
    PyObject *none = update == NULL ? NULL : PyObject_Call(update, args, kwargs);
    int rc = none == NULL ? -1 : message_fill((Message *)self, dict);
    Py_XDECREF(none);
    Py_XDECREF(update);
    Py_XDECREF(dict);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
message_copy(Message *msg)
{
    Message *fresh = message_alloc();
    if (fresh == NULL) {
        return NULL;
    }
    for (int i = 0; i < N_FIELDS; i++) {
        fresh->field[i] = Py_XNewRef(msg->field[i]);
    }
    fresh->birth_code = (PyCodeObject *)Py_XNewRef(msg->birth_code);
    fresh->birth_lasti = msg->birth_lasti;
    fresh->performed = 1;
    PyObject_GC_Track((PyObject *)fresh);
    if (msg->field[F_INFER] != NULL && PyDict_CheckExact(msg->field[F_INFER])) {
        PyObject *infer = PyDict_Copy(msg->field[F_INFER]);
        if (infer == NULL) {
            Py_DECREF(fresh);
            return NULL;
        }
        Py_SETREF(fresh->field[F_INFER], infer);
    }
    if (msg->extra != NULL && (fresh->extra = PyDict_Copy(msg->extra)) == NULL) {
        Py_DECREF(fresh);
        return NULL;
    }
    return (PyObject *)fresh;
}

static PyObject *
message_copy_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *fresh = message_copy((Message *)self);
    if (fresh != NULL) {
        ((Message *)fresh)->lent = 1; /* who copies a message may send the copy on */
    }
    return fresh;
}

/* --- as a request --------------------------------------------------------------------------- */

/* `yield from sample(...)`: an iterator that yields the request once and returns what is sent. */
typedef struct {
    PyObject_HEAD
    PyObject *msg;
    char asked;
} Perform;

static PyObject *
perform_new(PyObject *msg, char asked)
{
    Perform *self = PyObject_GC_New(Perform, &PerformType);
    if (self != NULL) {
        self->msg = Py_NewRef(msg);
        self->asked = asked;
        PyObject_GC_Track((PyObject *)self);
    }
    return (PyObject *)self;
}

PyObject *
perform_message(PyObject *self)
{
    return ((Perform *)self)->msg;
}

PyObject *
perform_copy(PyObject *self, PyObject *msg)
{
    return perform_new(msg, ((Perform *)self)->asked);
}

static PySendResult
perform_send(PyObject *op, PyObject *value, PyObject **result)
{
    Perform *self = (Perform *)op;
    if (!self->asked) {
        self->asked = 1;
        *result = Py_NewRef(self->msg);
        return PYGEN_NEXT;
    }
    *result = Py_NewRef(value);
    return PYGEN_RETURN;
}

static PyObject *
perform_next(PyObject *op)
{
    PyObject *result;
    if (perform_send(op, Py_None, &result) == PYGEN_RETURN) {
        Py_DECREF(result);
        return NULL;
    }
    return result;
}

static PyObject *
perform_send_method(PyObject *op, PyObject *value)
{
    PyObject *result;
    if (perform_send(op, value, &result) == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_DECREF(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    }
    return result;
}

static int
perform_traverse(Perform *self, visitproc visit, void *arg)
{
    Py_VISIT(self->msg);
    return 0;
}

static int
perform_clear(Perform *self)
{
    Py_CLEAR(self->msg);
    return 0;
}

static void
perform_dealloc(Perform *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->msg);
    PyObject_GC_Del(self);
}

static PyMethodDef perform_methods[] = {
    {"send", perform_send_method, METH_O, "Send the answer."},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods perform_async = {.am_send = perform_send};

PyTypeObject PerformType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Perform",
    .tp_basicsize = sizeof(Perform),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_as_async = &perform_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = perform_next,
    .tp_methods = perform_methods,
    .tp_traverse = (traverseproc)perform_traverse,
    .tp_clear = (inquiry)perform_clear,
    .tp_dealloc = (destructor)perform_dealloc,
};

static PyObject *
message_iter(PyObject *self)
{
    if (((Message *)self)->performed == 0) {
        return perform_new(self, 0);
    }
    PyObject *keys = message_keys(self, NULL);
    PyObject *iter = keys == NULL ? NULL : PyObject_GetIter(keys);
    Py_XDECREF(keys);
    return iter;
}

/* Mark a request as taken by a machine. */
static PyObject *
message_perform(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((Message *)self)->performed = 1;
    Py_RETURN_NONE;
}

/* Give the message to a control handler's clause, which forwards it by yielding it again. */
static PyObject *
message_lend(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((Message *)self)->lent = 1;
    Py_RETURN_NONE;
}

static PyObject *
message_is_lent(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Message *)self)->lent);
}

/* For functions of the library that build requests: the place is where they were called. */
static PyObject *
message_born_in_caller(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Frame *frame = compat_current_frame();
    frame = frame == NULL ? NULL : compat_caller(frame);
    if (frame != NULL) {
        Message *msg = (Message *)self;
        Py_XSETREF(msg->birth_code, (PyCodeObject *)Py_NewRef(compat_frame_code(frame)));
        msg->birth_lasti = compat_frame_lasti(frame);
    }
    return Py_NewRef(self);
}

/* For requests that are made further in: the place is where that frame stands. */
static PyObject *
message_born_at(PyObject *self, PyObject *frame)
{
    if (!PyFrame_Check(frame)) {
        PyErr_SetString(PyExc_TypeError, "born_at takes a frame");
        return NULL;
    }
    Message *msg = (Message *)self;
    Py_XSETREF(msg->birth_code, PyFrame_GetCode((PyFrameObject *)frame));
    msg->birth_lasti = PyFrame_GetLasti((PyFrameObject *)frame);
    return Py_NewRef(self);
}

static PyObject *
message_where(PyObject *self, void *Py_UNUSED(closure))
{
    return birth_place((Message *)self);
}

static PyObject *
message_is_performed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Message *)self)->performed == 1);
}

static PyObject *
message_repr(PyObject *self)
{
    Message *msg = (Message *)self;
    PyObject *value = msg->field[F_VALUE];
    return PyUnicode_FromFormat(
        "<%S %R%s%R%s>", msg->field[F_TYPE] ? msg->field[F_TYPE] : Py_None,
        msg->field[F_NAME] ? msg->field[F_NAME] : Py_None, " value=", value ? value : Py_None,
        msg->performed ? "" : ", not yet yielded");
}

/* --- building ------------------------------------------------------------------------------- */

/* A keyword that is none of ours goes on to a function that draws. A distribution takes none, and a
   misspelt `obs=` would be an observation that is never made. */
static int
check_keyword(PyObject *name, PyObject *fn, PyObject *key)
{
    if (!PyObject_HasAttrString(fn, "log_prob") ||
        PyUnicode_CompareWithASCIIString(key, "sample_shape") == 0) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "sample(%R, ...) has no keyword %R. It takes obs=, a value that was observed, and "
                 "infer=; others are for a function that draws, and this is a distribution: %R",
                 name, key, fn);
    return -1;
}

static PyObject *
message_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_SetString(PyExc_TypeError, "Message takes keyword arguments only");
        return NULL;
    }
    Message *msg = message_alloc();
    if (msg == NULL) {
        return NULL;
    }
    message_born_here(msg);
    PyObject_GC_Track((PyObject *)msg);
    if (kwargs != NULL && message_fill(msg, kwargs) < 0) {
        msg->performed = 1;
        Py_DECREF(msg);
        return NULL;
    }
    return (PyObject *)msg;
}

/* sample(name, fn, *args, obs=None, infer=None, **kwargs) */
PyObject *
message_sample(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    if (n < 2) {
        PyErr_SetString(PyExc_TypeError,
                        "sample needs a name and a distribution: sample(\"x\", dist.Flip(0.5))");
        return NULL;
    }
    if (!PyUnicode_Check(args[0])) {
        PyErr_Format(PyExc_TypeError,
                     "the name of a sample site must be a string, not %R: sample(\"x\", ...)",
                     (PyObject *)Py_TYPE(args[0]));
        return NULL;
    }
    Message *msg = message_alloc();
    if (msg == NULL) {
        return NULL;
    }
    msg->field[F_TYPE] = Py_NewRef(str_sample);
    msg->field[F_NAME] = Py_NewRef(args[0]);
    msg->field[F_FN] = Py_NewRef(args[1]);
    message_born_here(msg);
    PyObject_GC_Track((PyObject *)msg);
    if (n == 2 && names == NULL) {
        return (PyObject *)msg;
    }
    if (n > 2) {
        PyObject *rest = PyTuple_New(n - 2);
        if (rest == NULL) {
            goto failed;
        }
        for (Py_ssize_t i = 2; i < n; i++) {
            PyTuple_SET_ITEM(rest, i - 2, Py_NewRef(args[i]));
        }
        msg->field[F_ARGS] = rest;
    }
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *key = PyTuple_GET_ITEM(names, i), *value = args[n + i];
        if (key == str_obs || PyUnicode_Compare(key, str_obs) == 0) {
            if (value != Py_None) {
                msg->field[F_VALUE] = Py_NewRef(value);
                msg->field[F_IS_OBSERVED] = Py_NewRef(Py_True);
            }
        }
        else if (PyUnicode_Compare(key, str_infer) == 0) {
            if (value != Py_None) {
                PyObject *infer = PyDict_New();
                if (infer == NULL || PyDict_Update(infer, value) < 0) {
                    Py_XDECREF(infer);
                    goto failed;
                }
                msg->field[F_INFER] = infer;
            }
        }
        else {
            if (msg->field[F_KWARGS] == NULL && (msg->field[F_KWARGS] = PyDict_New()) == NULL) {
                goto failed;
            }
            if (PyDict_SetItem(msg->field[F_KWARGS], key, value) < 0 ||
                check_keyword(args[0], args[1], key) < 0) {
                goto failed;
            }
        }
    }
    return (PyObject *)msg;
failed:
    msg->performed = 1;
    Py_DECREF(msg);
    return NULL;
}

/* --- life and death ------------------------------------------------------------------------- */

static int
message_traverse(Message *msg, visitproc visit, void *arg)
{
    for (int i = 0; i < N_FIELDS; i++) {
        Py_VISIT(msg->field[i]);
    }
    Py_VISIT(msg->extra);
    return 0;
}

static int
message_clear(Message *msg)
{
    uintptr_t rare = 0; /* what few sites set is looked at together first */
    for (int i = F_ARGS; i < N_FIELDS; i++) {
        rare |= (uintptr_t)msg->field[i];
    }
    for (int i = 0; i < (rare ? N_FIELDS : F_ARGS); i++) {
        Py_CLEAR(msg->field[i]);
    }
    Py_CLEAR(msg->extra);
    return 0;
}

/* A request dies unperformed: tell the machine on this thread, or warn where there is none. */
static void
report_dropped(Message *msg)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) { /* while an exception is on its way, a lost request is its consequence */
        PyObject *text = unperformed_text(msg, "was never yielded");
        if (text == NULL) {
            PyErr_Clear();
        }
        else if (machines > 0) {
            if (dropped == NULL) {
                dropped = Py_NewRef(text);
            }
        }
        else if (PyErr_WarnEx(warn_unperformed, PyUnicode_AsUTF8(text), 1) < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        Py_XDECREF(text);
    }
    PyErr_Restore(type, value, traceback);
}

static void
message_dealloc(Message *msg)
{
    PyObject_GC_UnTrack(msg);
    if (msg->performed == 0 && quiet == 0 && msg->field[F_TYPE] != NULL) {
        report_dropped(msg); /* sees the fields only: nobody can take hold of the message */
    }
    message_clear(msg);
    Py_CLEAR(msg->birth_code);
    if (n_free < FREE_LIST) {
        free_list[n_free++] = msg;
    }
    else {
        PyObject_GC_Del(msg);
    }
}

int
message_was_dropped(void)
{
    return dropped != NULL;
}

int
message_raise_dropped(void)
{
    if (dropped == NULL) {
        return 0;
    }
    PyObject *text = dropped;
    dropped = NULL;
    if (PyErr_Occurred()) { /* the model failed on its own: that is the better story */
        Py_DECREF(text);
        return -1;
    }
    PyErr_SetObject(err_unperformed, text);
    Py_DECREF(text);
    return -1;
}

static PyObject *
native_check_dropped(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (message_raise_dropped() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

void
message_machines(int change)
{
    machines += change;
    if (machines <= 0) {
        machines = 0;
        Py_CLEAR(dropped);
    }
}

static PyObject *
native_machine_runs(PyObject *Py_UNUSED(module), PyObject *change)
{
    long delta = PyLong_AsLong(change);
    if (delta == -1 && PyErr_Occurred()) {
        return NULL;
    }
    message_machines((int)delta);
    Py_RETURN_NONE;
}

static PyMethodDef message_methods[] = {
    {"keys", message_keys, METH_NOARGS, "The message's keys."},
    {"values", message_values, METH_NOARGS, "The message's values."},
    {"items", message_items, METH_NOARGS, "The message's (key, value) pairs."},
    {"as_dict", message_as_dict, METH_NOARGS, "The message's fields, as a dict of their own."},
    {"get", (PyCFunction)(void (*)(void))message_get, METH_FASTCALL, "get(key, default=None)"},
    {"setdefault", (PyCFunction)(void (*)(void))message_setdefault, METH_FASTCALL,
     "setdefault(key, default=None)"},
    {"update", (PyCFunction)(void (*)(void))message_update, METH_VARARGS | METH_KEYWORDS,
     "update(mapping, **fields)"},
    {"copy", message_copy_method, METH_NOARGS,
     "A message with the same fields; `infer` is copied too."},
    {"perform", message_perform, METH_NOARGS, "Mark the request as taken by a machine."},
    {"lend", message_lend, METH_NOARGS, "Give the message to a clause, which may yield it again."},
    {"born_in_caller", message_born_in_caller, METH_NOARGS,
     "Take the caller of the running function as the place where the request was written."},
    {"born_at", message_born_at, METH_O,
     "Take the line at which a frame stands as the place where the request was written."},
    {"__torch_function__", message_torch_function, METH_VARARGS | METH_CLASS,
     "Refuse torch's functions."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Message[T]"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef message_getset[] = {
    {"where", message_where, NULL, "Where the request was written: file, line and function.", NULL},
    {"lent", message_is_lent, NULL, "Is the message in the hands of a clause?", NULL},
    {"performed", message_is_performed, NULL, "Has a machine taken the request?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject MessageType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Message",
    .tp_doc = "Message(**fields): an effect request, and the message that handlers see.",
    .tp_basicsize = sizeof(Message),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = message_new,
    .tp_repr = message_repr,
    .tp_hash = message_hash,
    .tp_call = message_call,
    .tp_iter = message_iter,
    .tp_getattro = message_getattr,
    .tp_richcompare = message_compare,
    .tp_as_number = &message_number,
    .tp_as_mapping = &message_mapping,
    .tp_as_sequence = &message_sequence,
    .tp_methods = message_methods,
    .tp_getset = message_getset,
    .tp_traverse = (traverseproc)message_traverse,
    .tp_clear = (inquiry)message_clear,
    .tp_dealloc = (destructor)message_dealloc,
};

static PyMethodDef message_functions[] = {
    {"sample", (PyCFunction)(void (*)(void))message_sample, METH_FASTCALL | METH_KEYWORDS,
     "sample(name, fn, *args, obs=None, infer=None, **kwargs)\n"
     "--\n"
     "\n"
     "A request to draw from the distribution `fn` at the site `name`; yield it.\n"
     "\n"
     "With `obs` (not None), the site is observed: the model gets that value, and its probability\n"
     "weighs the execution. `infer` is a dict of options for inference algorithms; `args` and `kwargs`\n"
     "are passed to `fn` where it is called. Raises TypeError where the name is no string.\n"
     "\n"
     ">>> import contpoutine as cp\n"
     ">>> def model():\n"
     "...     x = yield cp.sample(\"x\", cp.distributions.Flip(0.25))\n"
     "...     yield cp.sample(\"y\", cp.distributions.Flip(0.75 if x else 0.25), obs=True)\n"
     "...     return x\n"
     ">>> cp.infer.enumerate(model)().marginal()[True]\n"
     "0.5\n"},
    {"check_dropped", native_check_dropped, METH_NOARGS,
     "Raise UnperformedEffectError if a request has died unperformed on this thread."},
    {"machine_runs", native_machine_runs, METH_O,
     "machine_runs(+1 or -1): a machine starts or stops on this thread."},
    {NULL, NULL, 0, NULL},
};

int
message_ready(PyObject *module)
{
    field_tuple = PyTuple_New(N_FIELDS);
    if (field_tuple == NULL) {
        return -1;
    }
    for (int i = 0; i < N_FIELDS; i++) {
        field_name[i] = PyUnicode_InternFromString(field_text[i]);
        if (field_name[i] == NULL) {
            return -1;
        }
        PyTuple_SET_ITEM(field_tuple, i, Py_NewRef(field_name[i]));
    }
    empty_tuple = PyTuple_New(0);
    float_one = PyFloat_FromDouble(1.0);
    str_obs = PyUnicode_InternFromString("obs");
    str_infer = PyUnicode_InternFromString("infer");
    str_sample = PyUnicode_InternFromString("sample");
    if (empty_tuple == NULL || float_one == NULL || str_obs == NULL || str_infer == NULL ||
        str_sample == NULL || PyType_Ready(&MessageType) < 0 || PyType_Ready(&PerformType) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, message_functions) < 0 ||
                   PyModule_AddObjectRef(module, "Message", (PyObject *)&MessageType) < 0
               ? -1
               : 0;
}
