// The contract as far as it is used, as Ruby sees it: the module `Host`, and the methods of the class `Plugin`.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated/guest.h"
#include "generated/ruby.h"
#include "mruby.h"
#include "mruby/array.h"
#include "mruby/class.h"
#include "mruby/error.h"
#include "mruby/hash.h"
#include "mruby/irep.h"
#include "mruby/string.h"

static mrb_state *mrb;
static mrb_value plugin;
static struct RClass *host_error;
// What the stage of the moment is about.
static gatepost_policy_message_borrow_transaction_t transaction;
static gatepost_policy_message_borrow_content_t content;

// A text of Ruby for the length of one call into the host.
static guest_string_t lent(mrb_value text) {
  return (guest_string_t){(uint8_t *)RSTRING_PTR(text), (size_t)RSTRING_LEN(text)};
}

static mrb_value string(const void *octets, size_t length) {
  return mrb_str_new(mrb, octets, (mrb_int)length);
}

static mrb_value symbol(const char *name) {
  return mrb_symbol_value(mrb_intern_cstr(mrb, name));
}

// Raises Host::Error when the host gave no answer.
static void refuse(gatepost_policy_types_host_error_t *error) {
  static const char *const names[] = {"denied", "quota", "invalid", "unavailable", "other"};
  const char *name = error->tag < 5 ? names[error->tag] : "other";
  gatepost_policy_types_host_error_free(error);
  mrb_raise(mrb, host_error, name);
}

// Host.config(key): a value of the configuration, or nil. "a.0" reaches into a list.
static mrb_value host_config(mrb_state *mrb, mrb_value self) {
  mrb_value name;
  mrb_get_args(mrb, "S", &name);
  guest_string_t key = lent(name), value;
  if (!gatepost_policy_config_get(&key, &value)) return mrb_nil_value();
  mrb_value text = string(value.ptr, value.len);
  guest_string_free(&value);
  return text;
}

// Host.get(key): what the store has, nil if nothing.
static mrb_value host_get(mrb_state *mrb, mrb_value self) {
  mrb_value name;
  mrb_get_args(mrb, "S", &name);
  guest_string_t key = lent(name);
  guest_option_list_u8_t value;
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_kv_get(&key, &value, &error)) refuse(&error);
  if (!value.is_some) return mrb_nil_value();
  mrb_value text = string(value.val.ptr, value.val.len);
  guest_option_list_u8_free(&value);
  return text;
}

// Host.increment(key, delta, seconds to live): the sum.
static mrb_value host_increment(mrb_state *mrb, mrb_value self) {
  mrb_value name;
  mrb_int delta, seconds;
  mrb_get_args(mrb, "Sii", &name, &delta, &seconds);
  guest_string_t key = lent(name);
  uint32_t ttl = (uint32_t)seconds;
  int64_t sum;
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_kv_increment(&key, delta, &ttl, &sum, &error)) refuse(&error);
  return mrb_int_value(mrb, sum);
}

// Host.log(level, message, name: value, …)
static mrb_value host_log(mrb_state *mrb, mrb_value self) {
  mrb_sym level;
  mrb_value message, fields = mrb_nil_value();
  mrb_get_args(mrb, "nS|H", &level, &message, &fields);
  mrb_value names = mrb_nil_p(fields) ? mrb_ary_new(mrb) : mrb_hash_keys(mrb, fields);
  guest_tuple2_string_string_t pairs[8];
  guest_list_tuple2_string_string_t list = {pairs, 0};
  for (mrb_int i = 0; i < RARRAY_LEN(names) && i < 8; i++) {
    mrb_value name = mrb_ary_entry(names, i);
    mrb_value value = mrb_obj_as_string(mrb, mrb_hash_get(mrb, fields, name));
    pairs[list.len++] = (guest_tuple2_string_string_t){lent(mrb_obj_as_string(mrb, name)), lent(value)};
  }
  guest_string_t text = lent(message);
  bool is_warning = level == mrb_intern_lit(mrb, "warn");
  gatepost_policy_log_write(is_warning ? GATEPOST_POLICY_LOG_LEVEL_WARN : GATEPOST_POLICY_LOG_LEVEL_INFO, &text, &list);
  return mrb_nil_value();
}

static mrb_value host_prepend_header(mrb_state *mrb, mrb_value self) {
  mrb_value field[2];
  mrb_get_args(mrb, "SS", &field[0], &field[1]);
  guest_string_t name = lent(field[0]), value = lent(field[1]);
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_message_method_content_prepend_header(content, &name, &value, &error)) refuse(&error);
  return mrb_nil_value();
}

static mrb_value host_add_tag(mrb_state *mrb, mrb_value self) {
  mrb_value text;
  mrb_get_args(mrb, "S", &text);
  guest_string_t tag = lent(text);
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_message_method_transaction_add_tag(transaction, &tag, &error)) refuse(&error);
  return mrb_nil_value();
}

// Copies a text for the other side to keep, and to free.
static guest_string_t taken(mrb_value text) {
  guest_string_t copy = {NULL, 0};
  if (mrb_string_p(text)) guest_string_dup_n(&copy, RSTRING_PTR(text), (size_t)RSTRING_LEN(text));
  return copy;
}

static mrb_value field(mrb_value decision, const char *name) {
  return mrb_hash_get(mrb, decision, symbol(name));
}

static guest_option_string_t option(mrb_value decision, const char *name) {
  mrb_value value = field(decision, name);
  return (guest_option_string_t){.is_some = mrb_string_p(value), .val = taken(value)};
}

static uint16_t number(mrb_value value) {
  return (uint16_t)mrb_as_int(mrb, value);
}

// What is raised and not rescued fails the call: `on-error` decides.
static mrb_value protected(mrb_protect_error_func *body, void *data) {
  mrb_bool is_raised;
  mrb_value result = mrb_protect_error(mrb, body, data, &is_raised);
  if (!is_raised) return result;
  mrb->exc = mrb_obj_ptr(result);
  mrb_print_error(mrb);
  abort();
}

static void begin(void) {
  mrb = mrb_open();
  struct RClass *host = mrb_define_module(mrb, "Host");
  host_error = mrb_define_class_under(mrb, host, "Error", mrb->eStandardError_class);
  mrb_define_module_function(mrb, host, "config", host_config, MRB_ARGS_REQ(1));
  mrb_define_module_function(mrb, host, "get", host_get, MRB_ARGS_REQ(1));
  mrb_define_module_function(mrb, host, "increment", host_increment, MRB_ARGS_REQ(3));
  mrb_define_module_function(mrb, host, "log", host_log, MRB_ARGS_ARG(2, 1));
  mrb_define_module_function(mrb, host, "prepend_header", host_prepend_header, MRB_ARGS_REQ(2));
  mrb_define_module_function(mrb, host, "add_tag", host_add_tag, MRB_ARGS_REQ(1));
}

static mrb_value load(mrb_state *mrb, void *unused) {
  mrb_load_irep(mrb, ruby_plugin);
  if (mrb->exc != NULL) mrb_exc_raise(mrb, mrb_obj_value(mrb->exc));
  plugin = mrb_obj_new(mrb, mrb_class_get(mrb, "Plugin"), 0, NULL);
  mrb_gc_register(mrb, plugin);
  return plugin;
}

static mrb_value configure(mrb_state *mrb, void *to) {
  exports_gatepost_policy_configure_registration_t *ret = to;
  mrb_value told = mrb_funcall(mrb, plugin, "configure", 0);
  mrb_ensure_hash_type(mrb, told);
  ret->name = taken(field(told, "name"));
  ret->version = taken(field(told, "version"));
  ret->description = taken(field(told, "description"));
  return told;
}

bool exports_gatepost_policy_configure_configure(exports_gatepost_policy_configure_registration_t *ret, guest_string_t *err) {
  begin();
  protected(load, NULL);
  mrb_bool is_raised;
  mrb_value result = mrb_protect_error(mrb, configure, ret, &is_raised);
  if (is_raised) *err = taken(mrb_obj_as_string(mrb, result));
  return !is_raised;
}

// What a stage is asked, until it is answered.
struct question {
  gatepost_policy_message_borrow_session_t session;
  gatepost_policy_types_recipient_t *recipient;
  void *ret;
};

// A Session or a Recipient, of its one field.
static mrb_value made(const char *class, const guest_string_t *text) {
  mrb_value value = string(text->ptr, text->len);
  return mrb_obj_new(mrb, mrb_class_get(mrb, class), 1, &value);
}

static mrb_value session(gatepost_policy_message_borrow_session_t of) {
  gatepost_policy_types_session_info_t info;
  gatepost_policy_message_method_session_info(of, &info);
  mrb_value session = made("Session", &info.client.ip);
  gatepost_policy_types_session_info_free(&info);
  return session;
}

static exports_gatepost_policy_on_rcpt_verdict_t verdict(mrb_value decision) {
  static const char *const names[] = {"reject", "defer", "disconnect"};
  static const uint8_t tags[] = {
      EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT, EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DEFER,
      EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT};
  exports_gatepost_policy_on_rcpt_verdict_t verdict = {.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT};
  mrb_value name = field(decision, "verdict"), code = field(decision, "code"), enhanced = field(decision, "enhanced");
  for (size_t i = 0; i < sizeof tags; i++) {
    if (mrb_equal(mrb, name, symbol(names[i]))) verdict.tag = tags[i];
  }
  if (verdict.tag == EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT || mrb_nil_p(code)) return verdict;
  // All verdicts that have a reply keep it in the same place.
  exports_gatepost_policy_on_rcpt_option_reply_t *reply = &verdict.val.reject;
  reply->is_some = true;
  reply->val.code = number(code);
  reply->val.lines.ptr = malloc(sizeof(guest_string_t));
  reply->val.lines.len = 1;
  *reply->val.lines.ptr = taken(field(decision, "text"));
  if (mrb_array_p(enhanced)) {
    reply->val.enhanced.is_some = true;
    reply->val.enhanced.val.subject = number(mrb_ary_entry(enhanced, 0));
    reply->val.enhanced.val.detail = number(mrb_ary_entry(enhanced, 1));
  }
  return verdict;
}

static mrb_value rcpt(mrb_state *mrb, void *of) {
  struct question *question = of;
  exports_gatepost_policy_on_rcpt_decision_t *ret = question->ret;
  mrb_value recipient = made("Recipient", &question->recipient->address);
  mrb_value decision = mrb_funcall(mrb, plugin, "rcpt", 2, session(question->session), recipient);
  if (mrb_hash_p(decision)) {
    ret->verdict = verdict(decision);
    ret->reason = option(decision, "reason");
    ret->rule = option(decision, "rule");
  }
  return decision;
}

static mrb_value data(mrb_state *mrb, void *of) {
  struct question *question = of;
  exports_gatepost_policy_on_data_decision_t *ret = question->ret;
  mrb_value decision = mrb_funcall(mrb, plugin, "data", 1, session(question->session));
  if (mrb_hash_p(decision)) {
    ret->reason = option(decision, "reason");
    ret->rule = option(decision, "rule");
  }
  return decision;
}

static void ask(mrb_protect_error_func *stage, struct question *question) {
  int arena = mrb_gc_arena_save(mrb);
  protected(stage, question);
  mrb_gc_arena_restore(mrb, arena);
}

void exports_gatepost_policy_on_rcpt_rcpt(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t of,
                                          gatepost_policy_types_recipient_t *recipient,
                                          exports_gatepost_policy_on_rcpt_decision_t *ret) {
  memset(ret, 0, sizeof *ret); // `next`, without reason and rule
  transaction = of;
  ask(rcpt, &(struct question){session, recipient, ret});
  gatepost_policy_types_recipient_free(recipient);
}

void exports_gatepost_policy_on_data_data(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t of,
                                          gatepost_policy_message_borrow_content_t message,
                                          exports_gatepost_policy_on_data_decision_t *ret) {
  memset(ret, 0, sizeof *ret);
  transaction = of;
  content = message;
  ask(data, &(struct question){session, NULL, ret});
}
