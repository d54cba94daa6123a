// Refuses recipients who have left, and clients that go on guessing.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "generated/guest.h"

// Shorter names for what is used most.
typedef exports_gatepost_policy_on_rcpt_decision_t rcpt_decision;
typedef exports_gatepost_policy_on_data_decision_t data_decision;
typedef gatepost_policy_types_reply_t reply_to_client;

enum { HOUR = 3600 };

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
static struct {
  char **refused; // addresses
  size_t count;
  long patience; // so many refusals in an hour, then the client is disconnected
} settings;

// A value of the configuration as a C string to be freed; NULL if there is none.
static char *config(const char *key) {
  guest_string_t name, value;
  guest_string_set(&name, key);
  if (!gatepost_policy_config_get(&name, &value)) return NULL;
  char *text = strndup((const char *)value.ptr, value.len);
  guest_string_free(&value);
  return text;
}

// Returns what is wrong with the configuration, or NULL.
static const char *read_settings(void) {
  char *list = config("refused");
  bool is_list = list != NULL && list[0] == '[';
  free(list);
  if (!is_list) return "`refused` has to be a list of addresses";
  for (;;) {
    char key[32];
    snprintf(key, sizeof key, "refused.%zu", settings.count);
    char *address = config(key);
    if (address == NULL) break;
    settings.refused = realloc(settings.refused, (settings.count + 1) * sizeof *settings.refused);
    settings.refused[settings.count++] = address;
  }
  settings.patience = 3;
  char *patience = config("patience");
  if (patience != NULL) {
    char *end;
    settings.patience = strtol(patience, &end, 10);
    bool is_number = end != patience && *end == '\0' && settings.patience >= 0;
    free(patience);
    if (!is_number) return "`patience` has to be a number from 0 on";
  }
  return NULL;
}

static bool is_refused(const char *address) {
  for (size_t i = 0; i < settings.count; i++) {
    if (strcasecmp(settings.refused[i], address) == 0) return true;
  }
  return false;
}

// The key of kv under which the refusals of this client are counted.
static void client_key(gatepost_policy_message_borrow_session_t session, guest_string_t *key) {
  gatepost_policy_types_session_info_t info;
  gatepost_policy_message_method_session_info(session, &info);
  char text[80];
  snprintf(text, sizeof text, "refused/%.*s", (int)info.client.ip.len, (const char *)info.client.ip.ptr);
  gatepost_policy_types_session_info_free(&info);
  guest_string_dup(key, text);
}

static void log_line(gatepost_policy_log_level_t level, const char *message, const char *name, const char *value) {
  guest_string_t text;
  guest_string_set(&text, message);
  guest_tuple2_string_string_t field;
  guest_string_set(&field.f0, name);
  guest_string_set(&field.f1, value);
  guest_list_tuple2_string_string_t fields = {&field, 1};
  gatepost_policy_log_write(level, &text, &fields);
}

// One more refusal for this client; how many that makes within the hour.
static long count_refusal(gatepost_policy_message_borrow_session_t session) {
  guest_string_t key;
  client_key(session, &key);
  uint32_t ttl = HOUR;
  int64_t refusals = 0;
  gatepost_policy_kv_host_error_t error;
  if (gatepost_policy_kv_increment(&key, 1, &ttl, &refusals, &error)) {
    char number[24];
    snprintf(number, sizeof number, "%ld", (long)refusals);
    log_line(GATEPOST_POLICY_LOG_LEVEL_INFO, "refused", "refusals", number);
  } else { // without the store nobody is disconnected
    log_line(GATEPOST_POLICY_LOG_LEVEL_WARN, "refusals are not counted", "store", "no answer");
    gatepost_policy_kv_host_error_free(&error);
  }
  guest_string_free(&key);
  return (long)refusals;
}

// What goes to the host is copied: the host's side frees it.
static guest_option_string_t some(const char *text) {
  guest_option_string_t option = {.is_some = true};
  guest_string_dup(&option.val, text);
  return option;
}

static reply_to_client make_reply(uint16_t code, uint16_t subject, uint16_t detail, const char *text) {
  guest_string_t *line = malloc(sizeof *line);
  guest_string_dup(line, text);
  return (reply_to_client){.code = code, .enhanced = {true, {subject, detail}}, .lines = {line, 1}};
}

bool exports_gatepost_policy_configure_configure(exports_gatepost_policy_configure_registration_t *ret,
                                                 guest_string_t *err) {
  const char *fault = read_settings();
  if (fault != NULL) {
    guest_string_dup(err, fault);
    return false;
  }
  guest_string_dup(&ret->name, "{{name}}");
  guest_string_dup(&ret->version, "0.1.0");
  guest_string_dup(&ret->description, "Refuses recipients who have left");
  return true;
}

void exports_gatepost_policy_on_rcpt_rcpt(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t transaction,
                                          gatepost_policy_types_recipient_t *recipient, rcpt_decision *ret) {
  (void)transaction;
  *ret = (rcpt_decision){.verdict.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT};
  char address[400], text[440]; // RFC 5321 §4.5.3.1.3: a path has at most 256 octets
  snprintf(address, sizeof address, "%.*s", (int)recipient->address.len, (const char *)recipient->address.ptr);
  gatepost_policy_types_recipient_free(recipient);
  if (!is_refused(address)) return;
  for (char *c = address; *c; c++) {
    if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
  }
  long refusals = count_refusal(session);
  if (refusals > settings.patience) {
    ret->verdict.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT;
    ret->verdict.val.disconnect.is_some = true;
    ret->verdict.val.disconnect.val = make_reply(421, 7, 0, "Too many recipients who are not here");
    snprintf(text, sizeof text, "refusal %ld within the hour", refusals);
    ret->reason = some(text);
    ret->rule = some("patience");
    return;
  }
  ret->verdict.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT;
  ret->verdict.val.reject.is_some = true;
  snprintf(text, sizeof text, "%s is not here any more", address);
  ret->verdict.val.reject.val = make_reply(550, 1, 1, text);
  snprintf(text, sizeof text, "%s is listed", address);
  ret->reason = some(text);
  ret->rule = some("refused");
}

void exports_gatepost_policy_on_data_data(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t transaction,
                                          gatepost_policy_message_borrow_content_t content, data_decision *ret) {
  *ret = (data_decision){.verdict.tag = EXPORTS_GATEPOST_POLICY_ON_DATA_VERDICT_NEXT};
  guest_string_t key;
  client_key(session, &key);
  guest_option_list_u8_t refusals;
  gatepost_policy_kv_host_error_t error;
  if (!gatepost_policy_kv_get(&key, &refusals, &error)) abort(); // the call fails: `on-error` decides
  guest_string_free(&key);
  if (!refusals.is_some) return;
  char text[64];
  snprintf(text, sizeof text, "%.*s refused before", (int)refusals.val.len, (const char *)refusals.val.ptr);
  ret->reason = some(text);
  ret->rule = some("guesser");
  guest_string_t name, number = {refusals.val.ptr, refusals.val.len}, tag;
  guest_string_set(&name, "X-Refused-Recipients");
  guest_string_set(&tag, "guesser");
  if (!gatepost_policy_message_method_content_prepend_header(content, &name, &number, &error)) abort();
  if (!gatepost_policy_message_method_transaction_add_tag(transaction, &tag, &error)) abort();
  guest_option_list_u8_free(&refusals);
}
