// The contract as far as it is used, as Lua sees it: the table `host`, and the functions of `plugin.lua`.

#include <stdlib.h>
#include <string.h>

#include "generated/guest.h"
#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static const char script[] = {
#embed "plugin.lua"
};

static lua_State *lua;
// What the stage of the moment is about.
static gatepost_policy_message_borrow_transaction_t transaction;
static gatepost_policy_message_borrow_content_t content;

// A text of Lua for the length of one call into the host.
static guest_string_t lent(lua_State *L, int place) {
  guest_string_t text;
  text.ptr = (uint8_t *)luaL_checklstring(L, place, &text.len);
  return text;
}

// What Lua returns when the host gave no answer: nil, and why.
static int refusal(lua_State *L, gatepost_policy_types_host_error_t *error) {
  static const char *const names[] = {"denied", "quota", "invalid", "unavailable", "other"};
  lua_pushnil(L);
  lua_pushstring(L, error->tag < 5 ? names[error->tag] : "other");
  gatepost_policy_types_host_error_free(error);
  return 2;
}

// host.config(key): a value of the configuration, or nil. "a.0" reaches into a list.
static int host_config(lua_State *L) {
  guest_string_t key = lent(L, 1), value;
  if (!gatepost_policy_config_get(&key, &value)) return 0;
  lua_pushlstring(L, (const char *)value.ptr, value.len);
  guest_string_free(&value);
  return 1;
}

// host.get(key): what the store has, nil if nothing; or nil and a fault.
static int host_get(lua_State *L) {
  guest_string_t key = lent(L, 1);
  guest_option_list_u8_t value;
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_kv_get(&key, &value, &error)) return refusal(L, &error);
  if (!value.is_some) return 0;
  lua_pushlstring(L, (const char *)value.val.ptr, value.val.len);
  guest_option_list_u8_free(&value);
  return 1;
}

// host.increment(key, delta, seconds to live): the sum; or nil and a fault.
static int host_increment(lua_State *L) {
  guest_string_t key = lent(L, 1);
  uint32_t ttl = (uint32_t)luaL_checkinteger(L, 3);
  int64_t sum;
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_kv_increment(&key, luaL_checkinteger(L, 2), &ttl, &sum, &error)) return refusal(L, &error);
  lua_pushinteger(L, sum);
  return 1;
}

// host.log(level, message, name, value)
static int host_log(lua_State *L) {
  static const char *const levels[] = {"info", "warn", NULL};
  static const gatepost_policy_log_level_t numbers[] = {GATEPOST_POLICY_LOG_LEVEL_INFO, GATEPOST_POLICY_LOG_LEVEL_WARN};
  gatepost_policy_log_level_t level = numbers[luaL_checkoption(L, 1, NULL, levels)];
  guest_string_t message = lent(L, 2);
  guest_tuple2_string_string_t field = {lent(L, 3), lent(L, 4)};
  guest_list_tuple2_string_string_t fields = {&field, 1};
  gatepost_policy_log_write(level, &message, &fields);
  return 0;
}

// host.prepend_header(name, value), host.add_tag(tag): true; or nil and a fault.
static int host_prepend_header(lua_State *L) {
  guest_string_t name = lent(L, 1), value = lent(L, 2);
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_message_method_content_prepend_header(content, &name, &value, &error)) return refusal(L, &error);
  lua_pushboolean(L, true);
  return 1;
}

static int host_add_tag(lua_State *L) {
  guest_string_t tag = lent(L, 1);
  gatepost_policy_types_host_error_t error;
  if (!gatepost_policy_message_method_transaction_add_tag(transaction, &tag, &error)) return refusal(L, &error);
  lua_pushboolean(L, true);
  return 1;
}

static const luaL_Reg host[] = {
    {"config", host_config},         {"get", host_get},
    {"increment", host_increment},   {"log", host_log},
    {"add_tag", host_add_tag},       {"prepend_header", host_prepend_header},
    {NULL, NULL},
};

// Copies the text at the top of the stack for the other side to keep, and to free; takes it off.
static guest_string_t taken(void) {
  guest_string_t text = {NULL, 0};
  size_t length;
  const char *octets = lua_tolstring(lua, -1, &length);
  if (octets != NULL) guest_string_dup_n(&text, octets, length);
  lua_pop(lua, 1);
  return text;
}

// A field of the table at the top of the stack.
static guest_option_string_t field(const char *name) {
  guest_option_string_t option = {.is_some = lua_getfield(lua, -1, name) != LUA_TNIL};
  option.val = taken();
  return option;
}

static lua_Integer number(const char *name) {
  lua_getfield(lua, -1, name);
  lua_Integer number = lua_tointeger(lua, -1);
  lua_pop(lua, 1);
  return number;
}

// plugin.NAME and its first argument, the session. False if there is no such function.
static bool begin(const char *name, gatepost_policy_message_borrow_session_t session) {
  lua_settop(lua, 1);
  lua_getfield(lua, 1, name);
  gatepost_policy_types_session_info_t info;
  gatepost_policy_message_method_session_info(session, &info);
  lua_createtable(lua, 0, 1);
  lua_pushlstring(lua, (const char *)info.client.ip.ptr, info.client.ip.len);
  lua_setfield(lua, -2, "client");
  gatepost_policy_types_session_info_free(&info);
  return lua_isfunction(lua, -2);
}

bool exports_gatepost_policy_configure_configure(exports_gatepost_policy_configure_registration_t *ret, guest_string_t *err) {
  lua = luaL_newstate();
  static const luaL_Reg libraries[] = {
      {LUA_GNAME, luaopen_base},         {LUA_STRLIBNAME, luaopen_string}, {LUA_TABLIBNAME, luaopen_table},
      {LUA_MATHLIBNAME, luaopen_math},   {LUA_UTF8LIBNAME, luaopen_utf8},
  };
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    luaL_requiref(lua, libraries[i].name, libraries[i].func, 1);
  }
  luaL_newlib(lua, host);
  lua_setglobal(lua, "host");
  lua_settop(lua, 0);
  if (luaL_loadbuffer(lua, script, sizeof script, "=plugin.lua") != LUA_OK) {
    *err = taken();
    return false;
  }
  lua_call(lua, 0, 1); // the table of plugin.lua stays at the bottom of the stack
  lua_getfield(lua, 1, "configure");
  lua_call(lua, 0, 2);
  if (lua_isnil(lua, -2)) {
    *err = taken();
    return false;
  }
  lua_pop(lua, 1);
  ret->name = field("name").val;
  ret->version = field("version").val;
  ret->description = field("description").val;
  return true;
}

void exports_gatepost_policy_on_rcpt_rcpt(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t of,
                                          gatepost_policy_types_recipient_t *recipient,
                                          exports_gatepost_policy_on_rcpt_decision_t *ret) {
  memset(ret, 0, sizeof *ret); // `next`, without reason and rule
  transaction = of;
  bool is_there = begin("rcpt", session);
  lua_createtable(lua, 0, 1);
  lua_pushlstring(lua, (const char *)recipient->address.ptr, recipient->address.len);
  lua_setfield(lua, -2, "address");
  gatepost_policy_types_recipient_free(recipient);
  if (!is_there) return;
  lua_call(lua, 2, 1);
  if (!lua_istable(lua, -1)) return;
  ret->reason = field("reason");
  ret->rule = field("rule");
  static const char *const verdicts[] = {"reject", "defer", "disconnect", "next", NULL};
  static const uint8_t tags[] = {
      EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT, EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DEFER,
      EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT, EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT};
  lua_getfield(lua, -1, "verdict");
  ret->verdict.tag = tags[luaL_checkoption(lua, -1, "next", verdicts)];
  lua_pop(lua, 1);
  if (ret->verdict.tag == EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT || number("code") == 0) return;
  // All verdicts that have a reply keep it in the same place.
  exports_gatepost_policy_on_rcpt_option_reply_t *reply = &ret->verdict.val.reject;
  reply->is_some = true;
  reply->val.code = (uint16_t)number("code");
  reply->val.lines.ptr = malloc(sizeof(guest_string_t));
  reply->val.lines.len = 1;
  *reply->val.lines.ptr = field("text").val;
  if (lua_getfield(lua, -1, "enhanced") == LUA_TTABLE) {
    reply->val.enhanced.is_some = true;
    lua_rawgeti(lua, -1, 1);
    lua_rawgeti(lua, -2, 2);
    reply->val.enhanced.val.subject = (uint16_t)lua_tointeger(lua, -2);
    reply->val.enhanced.val.detail = (uint16_t)lua_tointeger(lua, -1);
  }
}

void exports_gatepost_policy_on_data_data(gatepost_policy_message_borrow_session_t session,
                                          gatepost_policy_message_borrow_transaction_t of,
                                          gatepost_policy_message_borrow_content_t message,
                                          exports_gatepost_policy_on_data_decision_t *ret) {
  memset(ret, 0, sizeof *ret);
  transaction = of;
  content = message;
  if (!begin("data", session)) return;
  lua_call(lua, 1, 1);
  if (!lua_istable(lua, -1)) return;
  ret->reason = field("reason");
  ret->rule = field("rule");
}
