// Ruby's exceptions where the machine has none: this takes the place of mruby/throw.h. Every frame of C returns to its caller at
// once, as binaryen's Asyncify has rewritten it, up to the one that wants to know. See exceptions.c.

#pragma once
#define MRB_THROW_H

#include <stdbool.h>

typedef int mrb_jmpbuf_impl; // the depth of who wants to know; 0 for nobody
struct mrb_jmpbuf {
  mrb_jmpbuf_impl impl;
};

void exceptions_throw(int depth);

// Where mruby begins: an exception there is the end. exceptions.c has another.
#define MRB_TRY(buf) \
  (buf)->impl = 0;   \
  if (true) {
#define MRB_CATCH(buf) } else {
#define MRB_END_EXC(buf) }
#define MRB_THROW(buf) exceptions_throw((buf)->impl)
