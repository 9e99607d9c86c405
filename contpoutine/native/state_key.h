/* state_key.h: writing states down. A Key is a buffer that is filled, compared and used again. */

#ifndef CONTPOUTINE_STATE_KEY_H
#define CONTPOUTINE_STATE_KEY_H

#include "native.h"

/* The objects that keys name by address: they stay alive, so that no address is used again. */
typedef struct {
    PyObject **table;
    size_t size, n;
} Kept;

int kept_add(Kept *kept, PyObject *o);
int kept_visit(Kept *kept, visitproc visit, void *arg);
void kept_clear(Kept *kept);

typedef struct {
    PyObject *outside; /* borrowed */
    Kept *kept;        /* borrowed */
    unsigned char *bytes;
    size_t n, room;
    const void **index; /* addresses met in this key, open addressing */
    int *numbers;
    size_t mask;
    int n_met;
    int depth;
    char owned;    /* something that can be changed has been met */
    PyObject *why; /* why this key equals no other, or NULL */
} Key;

void key_begin(Key *key, PyObject *outside, Kept *kept);
void key_reset(Key *key);
void key_end(Key *key);
int key_put(Key *key, PyObject *o);
int key_put_frame(Key *key, PyObject *frame);
int key_put_int(Key *key, char tag, Py_ssize_t n);
int key_put_handlers(Key *key, PyObject *segment);
/* Is what a suspended generator is sent next dropped, whatever it is? -1 on error. */
int key_drops_value(PyObject *gen);
unsigned long long key_hash(const unsigned char *bytes, size_t n);

#endif
