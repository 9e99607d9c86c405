/* sweeps.c: sums over a network without cycles, and the network of a graph without calls.

   The reference for each function is the one of `infer/network.py` and `infer/sweeps.py`, where the
   columns are explained. Indices come from columns that Python can fill, so each one is checked
   before it is used. Results are bytes, which Python puts into arrays. */

#include "native.h"
#include <math.h>

typedef struct {
    Py_buffer view;
    Py_ssize_t n;
} Column;

/* A buffer of `size` bytes an item. */
static int
column(PyObject *o, Column *c, Py_ssize_t size, const char *name)
{
    if (PyObject_GetBuffer(o, &c->view, PyBUF_SIMPLE) < 0) {
        c->view.obj = NULL;
        return -1;
    }
    if (c->view.len % size) {
        PyErr_Format(PyExc_ValueError, "column %s has items of %zd bytes", name, size);
        return -1;
    }
    c->n = c->view.len / size;
    return 0;
}

#define INTS(c) ((const int *)(c).view.buf)
#define DOUBLES(c) ((const double *)(c).view.buf)

static void
release(Column *columns, int n)
{
    for (int i = 0; i < n; i++) {
        if (columns[i].view.obj != NULL) {
            PyBuffer_Release(&columns[i].view);
        }
    }
}

static PyObject *
room(Py_ssize_t n, size_t size)
{
    if (n < 0 || (size_t)n > PY_SSIZE_T_MAX / size) {
        return PyErr_NoMemory();
    }
    return PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)size);
}

/* --- the network of a graph without calls ------------------------------------------------- */

enum { KIND, WEIGHT, FIRST_EDGE, EDGE_COUNT, TARGET, LOG_WEIGHT, N_GRAPH };

static int
bad_graph(void)
{
    PyErr_SetString(PyExc_ValueError, "the columns of the state graph do not fit together");
    return -1;
}

/* How many rules each item has, at begin[item]. The number of rules, or -1. */
static Py_ssize_t
count_rules(const Column *g, int root, int returned, int *begin)
{
    Py_ssize_t n = g[KIND].n, edges = g[TARGET].n, total = 1;
    if (n >= INT_MAX - 2 || root < 0 || root >= n || g[WEIGHT].n != n || g[FIRST_EDGE].n != n ||
        g[EDGE_COUNT].n != n || g[LOG_WEIGHT].n != edges) {
        return bad_graph();
    }
    const unsigned char *kind = g[KIND].view.buf;
    const int *first = INTS(g[FIRST_EDGE]), *count = INTS(g[EDGE_COUNT]), *target = INTS(g[TARGET]);
    memset(begin, 0, (size_t)(n + 2) * sizeof(int));
    begin[root] = 1;
    for (Py_ssize_t s = 0; s < n; s++) {
        if (count[s] < 0 || (count[s] && (first[s] < 0 || first[s] > edges - count[s]))) {
            return bad_graph();
        }
        for (int e = first[s]; e < first[s] + count[s]; e++) {
            if (target[e] < 0 || target[e] >= n) {
                return bad_graph();
            }
            begin[target[e]]++;
        }
        total += count[s];
        if (kind[s] == returned && DOUBLES(g[WEIGHT])[s] > -INFINITY) {
            begin[n]++;
            total++;
        }
        if (total >= INT_MAX) {
            return bad_graph();
        }
    }
    return total;
}

static void
fill_rules(const Column *g, int root, int returned, int *begin, int *tail, double *coefficient,
           int *edge)
{
    Py_ssize_t n = g[KIND].n;
    const unsigned char *kind = g[KIND].view.buf;
    const int *first = INTS(g[FIRST_EDGE]), *count = INTS(g[EDGE_COUNT]), *target = INTS(g[TARGET]);
    const double *weight = DOUBLES(g[WEIGHT]), *log_weight = DOUBLES(g[LOG_WEIGHT]);
    int rule = begin[root]++;
    tail[rule] = edge[rule] = -1;
    coefficient[rule] = 0.0;
    for (Py_ssize_t s = 0; s < n; s++) {
        for (int e = first[s]; e < first[s] + count[s]; e++) {
            rule = begin[target[e]]++;
            tail[rule] = (int)s;
            edge[rule] = e;
            coefficient[rule] = weight[s] + log_weight[e];
        }
        if (kind[s] == returned && weight[s] > -INFINITY) {
            rule = begin[n]++;
            tail[rule] = (int)s;
            edge[rule] = -1;
            coefficient[rule] = weight[s];
        }
    }
}

static PyObject *
predecessors(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const char *names[] = {"kind", "weight", "first_edge", "edge_count", "target",
                                  "log_weight"};
    static const Py_ssize_t sizes[] = {1, sizeof(double), sizeof(int), sizeof(int), sizeof(int),
                                       sizeof(double)};
    PyObject *given[N_GRAPH], *result = NULL, *out[4] = {NULL, NULL, NULL, NULL};
    Column g[N_GRAPH];
    int root, returned, *begin = NULL;
    if (!PyArg_ParseTuple(args, "OOOOOOii", &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5], &root, &returned)) {
        return NULL;
    }
    memset(g, 0, sizeof(g));
    for (int i = 0; i < N_GRAPH; i++) {
        if (column(given[i], &g[i], sizes[i], names[i]) < 0) {
            goto done;
        }
    }
    Py_ssize_t n = g[KIND].n;
    begin = PyMem_Malloc((size_t)(n + 2) * sizeof(int));
    if (begin == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t total = count_rules(g, root, returned, begin);
    if (total < 0 || (out[0] = room(n + 2, sizeof(int))) == NULL ||
        (out[1] = room(total, sizeof(int))) == NULL ||
        (out[2] = room(total, sizeof(double))) == NULL ||
        (out[3] = room(total, sizeof(int))) == NULL) {
        goto done;
    }
    int *first = (int *)PyBytes_AS_STRING(out[0]), at = 0;
    for (Py_ssize_t i = 0; i < n + 2; i++) {
        int here = begin[i];
        first[i] = begin[i] = at;
        at += here;
    }
    fill_rules(g, root, returned, begin, (int *)PyBytes_AS_STRING(out[1]),
               (double *)PyBytes_AS_STRING(out[2]), (int *)PyBytes_AS_STRING(out[3]));
    result = PyTuple_Pack(4, out[0], out[1], out[2], out[3]);
done:
    release(g, N_GRAPH);
    PyMem_Free(begin);
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(out[i]);
    }
    return result;
}

/* --- a network ---------------------------------------------------------------------------- */

enum { FIRST, TAIL, SECOND, N_RULES };

typedef struct {
    Column c[N_RULES];
    Py_ssize_t items, rules;
    const int *first, *tail, *second; /* second may be NULL */
} Net;

static int
net(PyObject *first, PyObject *tail, PyObject *second, Net *x)
{
    memset(x, 0, sizeof(*x));
    if (column(first, &x->c[FIRST], sizeof(int), "first") < 0 ||
        column(tail, &x->c[TAIL], sizeof(int), "tail") < 0 ||
        (second != Py_None && column(second, &x->c[SECOND], sizeof(int), "second") < 0)) {
        return -1;
    }
    x->items = x->c[FIRST].n - 1;
    x->rules = x->c[TAIL].n;
    x->first = INTS(x->c[FIRST]);
    x->tail = INTS(x->c[TAIL]);
    x->second = second == Py_None ? NULL : INTS(x->c[SECOND]);
    int bad = x->items < 0 || x->first[0] != 0 || x->first[x->items] != x->rules ||
              (x->second != NULL && x->c[SECOND].n != x->rules);
    for (Py_ssize_t i = 0; !bad && i < x->items; i++) {
        bad = x->first[i] > x->first[i + 1];
    }
    for (Py_ssize_t r = 0; !bad && r < x->rules; r++) {
        bad = x->tail[r] < -1 || x->tail[r] >= x->items ||
              (x->second != NULL && (x->second[r] < -1 || x->second[r] >= x->items));
    }
    if (bad) {
        PyErr_SetString(PyExc_ValueError, "the columns of the network do not fit together");
        return -1;
    }
    return 0;
}

static int
is_sorted(const Net *x)
{
    for (Py_ssize_t i = 0; i < x->items; i++) {
        for (int r = x->first[i]; r < x->first[i + 1]; r++) {
            if (x->tail[r] >= i || (x->second != NULL && x->second[r] >= i)) {
                return 0;
            }
        }
    }
    return 1;
}

/* The items, each after what it uses (Kahn's algorithm). How many could be put in order. */
static Py_ssize_t
sort_items(const Net *x, int *out, int *waiting, int *user_at, int *users)
{
    Py_ssize_t n = x->items, done = 0, at = 0;
    memset(user_at, 0, (size_t)(n + 1) * sizeof(int));
    for (Py_ssize_t r = 0; r < x->rules; r++) {
        if (x->tail[r] >= 0) {
            user_at[x->tail[r]]++;
        }
        if (x->second != NULL && x->second[r] >= 0) {
            user_at[x->second[r]]++;
        }
    }
    for (Py_ssize_t i = 0; i <= n; i++) {
        int here = user_at[i];
        user_at[i] = (int)at;
        at += here;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        waiting[i] = 0;
        for (int r = x->first[i]; r < x->first[i + 1]; r++) {
            if (x->tail[r] >= 0) {
                users[user_at[x->tail[r]]++] = (int)i;
                waiting[i]++;
            }
            if (x->second != NULL && x->second[r] >= 0) {
                users[user_at[x->second[r]]++] = (int)i;
                waiting[i]++;
            }
        }
        if (!waiting[i]) {
            out[done++] = (int)i;
        }
    }
    for (Py_ssize_t k = 0; k < done; k++) { /* user_at[i] is now the end of item i's users */
        int i = out[k];
        for (int u = i ? user_at[i - 1] : 0; u < user_at[i]; u++) {
            if (!--waiting[users[u]]) {
                out[done++] = users[u];
            }
        }
    }
    return done;
}

static PyObject *
network_order(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *first, *tail, *second, *out = NULL;
    Net x;
    int *work = NULL;
    if (!PyArg_ParseTuple(args, "OOO", &first, &tail, &second)) {
        return NULL;
    }
    if (net(first, tail, second, &x) < 0 || (out = room(x.items, sizeof(int))) == NULL) {
        goto done;
    }
    int *order = (int *)PyBytes_AS_STRING(out);
    if (is_sorted(&x)) {
        for (Py_ssize_t i = 0; i < x.items; i++) {
            order[i] = (int)i;
        }
        goto done;
    }
    if (2 * x.rules >= INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the network is too large");
        Py_CLEAR(out);
        goto done;
    }
    work = PyMem_Malloc((size_t)(2 * x.items + 1 + 2 * x.rules) * sizeof(int));
    if (work == NULL) {
        Py_CLEAR(out);
        PyErr_NoMemory();
        goto done;
    }
    if (sort_items(&x, order, work, work + x.items, work + 2 * x.items + 1) < x.items) {
        Py_SETREF(out, Py_NewRef(Py_None));
    }
done:
    release(x.c, N_RULES);
    PyMem_Free(work);
    return out;
}

/* --- sweeps ------------------------------------------------------------------------------- */

static inline double
term(const Net *x, int r, const double *coefficient, const double *weight)
{
    double sum = coefficient[r];
    if (x->tail[r] >= 0) {
        sum += weight[x->tail[r]];
    }
    if (x->second != NULL && x->second[r] >= 0) {
        sum += weight[x->second[r]];
    }
    return sum;
}

static double
heaviest(const Net *x, int item, const double *coefficient, const double *weight)
{
    double top = -INFINITY;
    for (int r = x->first[item]; r < x->first[item + 1]; r++) {
        double t = term(x, r, coefficient, weight);
        top = t > top ? t : top;
    }
    return top;
}

static double
log_sum(const Net *x, int item, const double *coefficient, const double *weight)
{
    double top = heaviest(x, item, coefficient, weight), sum = 0.0;
    if (top == -INFINITY || x->first[item + 1] - x->first[item] == 1) {
        return top;
    }
    for (int r = x->first[item]; r < x->first[item + 1]; r++) {
        sum += exp(term(x, r, coefficient, weight) - top);
    }
    return top + log(sum);
}

static int
check_order(const Column *order, const Column *coefficient, const Net *x)
{
    int bad = order->n != x->items || coefficient->n != x->rules;
    for (Py_ssize_t i = 0; !bad && i < order->n; i++) {
        bad = INTS(*order)[i] < 0 || INTS(*order)[i] >= x->items;
    }
    if (bad) {
        PyErr_SetString(PyExc_ValueError, "the order does not fit the network");
        return -1;
    }
    return 0;
}

static PyObject *
sweep(PyObject *args, double (*sum)(const Net *, int, const double *, const double *))
{
    PyObject *ordered, *first, *tail, *second, *weights, *out = NULL;
    Column c[2];
    Net x;
    if (!PyArg_ParseTuple(args, "OOOOO", &ordered, &first, &tail, &second, &weights)) {
        return NULL;
    }
    memset(c, 0, sizeof(c));
    if (net(first, tail, second, &x) < 0 || column(ordered, &c[0], sizeof(int), "order") < 0 ||
        column(weights, &c[1], sizeof(double), "coefficient") < 0 ||
        check_order(&c[0], &c[1], &x) < 0 || (out = room(x.items, sizeof(double))) == NULL) {
        goto done;
    }
    double *weight = (double *)PyBytes_AS_STRING(out);
    for (Py_ssize_t i = 0; i < x.items; i++) {
        weight[i] = -INFINITY;
    }
    for (Py_ssize_t i = 0; i < x.items; i++) {
        int item = INTS(c[0])[i];
        weight[item] = sum(&x, item, DOUBLES(c[1]), weight);
    }
done:
    release(x.c, N_RULES);
    release(c, 2);
    return out;
}

static PyObject *
network_inside(PyObject *Py_UNUSED(module), PyObject *args)
{
    return sweep(args, log_sum);
}

static PyObject *
network_best(PyObject *Py_UNUSED(module), PyObject *args)
{
    return sweep(args, heaviest);
}

/* The mass of one item goes to what its rules use, in the shares that it came from. */
static void
spread(const Net *x, int item, const double *coefficient, const double *weight, double *items,
       double *rules)
{
    double mass = items[item], top = heaviest(x, item, coefficient, weight), sum = 0.0;
    if (!(mass > 0.0) || top == -INFINITY) {
        return;
    }
    int begin = x->first[item], end = x->first[item + 1];
    for (int r = begin; r < end; r++) {
        rules[r] = exp(term(x, r, coefficient, weight) - top);
        sum += rules[r];
    }
    for (int r = begin; r < end; r++) {
        rules[r] = mass * (rules[r] / sum);
        if (x->tail[r] >= 0) {
            items[x->tail[r]] += rules[r];
        }
        if (x->second != NULL && x->second[r] >= 0) {
            items[x->second[r]] += rules[r];
        }
    }
}

static PyObject *
network_flow(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *ordered, *first, *tail, *second, *coefficients, *weights, *result = NULL;
    PyObject *item_mass = NULL, *rule_mass = NULL;
    int goal;
    Column c[3];
    Net x;
    if (!PyArg_ParseTuple(args, "OOOOOOi", &ordered, &first, &tail, &second, &coefficients,
                          &weights, &goal)) {
        return NULL;
    }
    memset(c, 0, sizeof(c));
    if (net(first, tail, second, &x) < 0 || column(ordered, &c[0], sizeof(int), "order") < 0 ||
        column(coefficients, &c[1], sizeof(double), "coefficient") < 0 ||
        column(weights, &c[2], sizeof(double), "weights") < 0 ||
        check_order(&c[0], &c[1], &x) < 0) {
        goto done;
    }
    if (c[2].n != x.items || goal < 0 || goal >= x.items) {
        PyErr_SetString(PyExc_ValueError, "the weights do not fit the network");
        goto done;
    }
    item_mass = room(x.items, sizeof(double));
    rule_mass = room(x.rules, sizeof(double));
    if (item_mass == NULL || rule_mass == NULL) {
        goto done;
    }
    double *items = (double *)PyBytes_AS_STRING(item_mass);
    double *rules = (double *)PyBytes_AS_STRING(rule_mass);
    for (Py_ssize_t i = 0; i < x.items; i++) {
        items[i] = 0.0;
    }
    for (Py_ssize_t r = 0; r < x.rules; r++) {
        rules[r] = 0.0;
    }
    items[goal] = DOUBLES(c[2])[goal] > -INFINITY ? 1.0 : 0.0;
    for (Py_ssize_t i = x.items - 1; i >= 0; i--) {
        spread(&x, INTS(c[0])[i], DOUBLES(c[1]), DOUBLES(c[2]), items, rules);
    }
    result = PyTuple_Pack(2, item_mass, rule_mass);
done:
    release(x.c, N_RULES);
    release(c, 3);
    Py_XDECREF(item_mass);
    Py_XDECREF(rule_mass);
    return result;
}

static PyMethodDef sweep_functions[] = {
    {"predecessors", predecessors, METH_VARARGS,
     "predecessors(kind, weight, first_edge, edge_count, target, log_weight, root, RETURN): the "
     "columns first, tail, coefficient and edge of the network."},
    {"network_order", network_order, METH_VARARGS,
     "network_order(first, tail, second or None): the items in order, or None: a cycle."},
    {"network_inside", network_inside, METH_VARARGS,
     "network_inside(order, first, tail, second, coefficient): the log-weight of each item."},
    {"network_best", network_best, METH_VARARGS,
     "network_best(order, first, tail, second, coefficient): that of its heaviest derivation."},
    {"network_flow", network_flow, METH_VARARGS,
     "network_flow(order, first, tail, second, coefficient, weights, goal): posterior mass of "
     "items and of rules."},
    {NULL, NULL, 0, NULL},
};

int
sweeps_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, sweep_functions);
}
