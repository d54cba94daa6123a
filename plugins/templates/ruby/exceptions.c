// Who catches exceptions of Ruby: the loop that runs bytecode, and mrb_protect_error.

#include <stdio.h>
#include <stdlib.h>

#include "exceptions.h"

static int depth;      // how many who might catch are under way
static bool is_caught; // the next block is to be entered by its MRB_CATCH

static bool take_caught(void) {
  bool was = is_caught;
  is_caught = false;
  return was;
}

// mruby says so itself only the first time.
#undef MRB_TRY
#define MRB_TRY(buf)   \
  (buf)->impl = depth; \
  mrb->jmp = (buf);    \
  if (!take_caught()) {
#include "generated/vm.c" // mruby's, with `run_bytecode` for mrb_vm_exec, and `unused` for mrb_protect_error

__attribute__((import_module("asyncify"), import_name("start_unwind"))) void start_unwind(void *to);
__attribute__((import_module("asyncify"), import_name("stop_unwind"))) void stop_unwind(void);

// Where Asyncify keeps what would be needed to come back, which nobody does: between two that catch there are few frames.
static struct {
  void *next, *end;
  char octets[32768];
} kept;

static int wanted; // who is looked for while frames are left; 0 otherwise

void exceptions_throw(int to) {
  if (to == 0) {
    fputs("an exception before Ruby has begun\n", stderr);
    abort();
  }
  wanted = to;
  kept.next = kept.octets;
  kept.end = kept.octets + sizeof kept.octets;
  start_unwind(&kept);
}

// The frames that are left restore nothing, so the stack pointer is for who catches.
static inline void *stack_pointer(void) {
  void *at;
  __asm__ volatile(".globaltype __stack_pointer, i32\nglobal.get __stack_pointer\nlocal.set %0" : "=r"(at));
  return at;
}

static inline void set_stack_pointer(void *at) {
  __asm__ volatile(".globaltype __stack_pointer, i32\nlocal.get %0\nglobal.set __stack_pointer" ::"r"(at));
}

// An exception for this depth ends here: true. False if there is none, or another wants it.
static bool catches(int here, void *stack) {
  if (wanted != here) return false;
  wanted = 0;
  stop_unwind();
  set_stack_pointer(stack);
  return true;
}

mrb_value mrb_vm_exec(mrb_state *mrb, const struct RProc *proc, const mrb_code *code) {
  void *volatile stack = stack_pointer();
  int here = ++depth, arena = mrb_gc_arena_save(mrb);
  struct mrb_jmpbuf *outer = mrb->jmp;
  mrb_gc_protect(mrb, mrb_obj_value((void *)proc));
  for (;;) {
    depth = here;
    mrb_value result = run_bytecode(mrb, proc, code);
    if (!catches(here, stack)) {
      if (wanted == 0) depth = here - 1;
      return result;
    }
    mrb_gc_arena_restore(mrb, arena + 1);
    mrb->jmp = outer;
    is_caught = true; // so it goes on where mruby would after a longjmp
  }
}

mrb_value mrb_protect_error(mrb_state *mrb, mrb_protect_error_func *body, void *data, mrb_bool *error) {
  void *volatile stack = stack_pointer();
  int here = ++depth, arena = mrb_gc_arena_save(mrb);
  struct mrb_jmpbuf *outer = mrb->jmp, own = {here};
  ptrdiff_t frames = mrb->c->ci - mrb->c->cibase;
  mrb->jmp = &own;
  mrb_value result = body(mrb, data);
  bool is_raised = catches(here, stack);
  if (wanted != 0) return result;
  depth = here - 1;
  mrb->jmp = outer;
  if (is_raised) {
    result = mrb_obj_value(mrb->exc);
    mrb->exc = NULL;
    while (mrb->c->ci - mrb->c->cibase > frames) cipop(mrb);
  }
  if (error != NULL) *error = is_raised;
  mrb_gc_arena_restore(mrb, arena);
  mrb_gc_protect(mrb, result);
  return result;
}
