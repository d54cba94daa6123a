//! Refuses recipients who have left, and clients that go on guessing.

const std = @import("std");
const c = @import("c"); // the C bindings of the contract

// A panic traps without words, and the plugin needs no WASI.
pub const panic = std.debug.no_panic;

// What crosses the border is freed by the other side: both use malloc.
const gpa = std.heap.c_allocator;
const hour = 3600;

const Settings = struct {
    /// Addresses.
    refused: []const []const u8,
    /// So many refusals in an hour, then the client is disconnected.
    patience: u32 = 3,
};

/// A cache: an instance may vanish between any two stages and be configured anew. What has to
/// outlive a call belongs in kv.
var settings: Settings = .{ .refused = &.{} };

export fn exports_gatepost_policy_configure_configure(
    ret: *c.exports_gatepost_policy_configure_registration_t,
    err: *c.guest_string_t,
) bool {
    var json: c.guest_string_t = undefined;
    c.gatepost_policy_config_json(&json);
    const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true };
    settings = std.json.parseFromSliceLeaky(Settings, gpa, slice(json), options) catch {
        err.* = copy("`refused` has to be a list of addresses, and `patience` a number from 0 on");
        return false;
    };
    ret.* = .{
        .name = copy("{{name}}"),
        .version = copy("0.1.0"),
        .description = copy("Refuses recipients who have left"),
    };
    return true;
}

export fn exports_gatepost_policy_on_rcpt_rcpt(
    session: c.gatepost_policy_message_borrow_session_t,
    _: c.gatepost_policy_message_borrow_transaction_t,
    recipient: *c.gatepost_policy_types_recipient_t,
    ret: *c.exports_gatepost_policy_on_rcpt_decision_t,
) void {
    defer c.gatepost_policy_types_recipient_free(recipient);
    ret.* = std.mem.zeroes(@TypeOf(ret.*)); // `next`, without reason and rule
    if (!isRefused(slice(recipient.address))) return;
    const address = std.ascii.allocLowerString(gpa, slice(recipient.address)) catch @panic("memory");
    defer gpa.free(address);
    const refusals = countRefusal(session);
    if (refusals > settings.patience) {
        ret.verdict.tag = c.EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT;
        const text = copy("Too many recipients who are not here");
        ret.verdict.val.disconnect = .{ .is_some = true, .val = reply(421, 7, 0, text) };
        ret.reason = some(print("refusal {d} within the hour", .{refusals}));
        ret.rule = some(copy("patience"));
    } else {
        ret.verdict.tag = c.EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT;
        const text = print("{s} is not here any more", .{address});
        ret.verdict.val.reject = .{ .is_some = true, .val = reply(550, 1, 1, text) };
        ret.reason = some(print("{s} is listed", .{address}));
        ret.rule = some(copy("refused"));
    }
}

export fn exports_gatepost_policy_on_data_data(
    session: c.gatepost_policy_message_borrow_session_t,
    transaction: c.gatepost_policy_message_borrow_transaction_t,
    content: c.gatepost_policy_message_borrow_content_t,
    ret: *c.exports_gatepost_policy_on_data_decision_t,
) void {
    ret.* = std.mem.zeroes(@TypeOf(ret.*));
    var key = clientKey(session);
    defer c.guest_string_free(&key);
    var refusals: c.guest_option_list_u8_t = undefined;
    var fault: c.gatepost_policy_types_host_error_t = undefined;
    // A panic makes the call fail: `on-error` decides.
    if (!c.gatepost_policy_kv_get(&key, &refusals, &fault)) @panic("no answer from the store");
    if (!refusals.is_some) return;
    defer c.guest_option_list_u8_free(&refusals);
    var number: c.guest_string_t = .{ .ptr = refusals.val.ptr, .len = refusals.val.len };
    var name = lend("X-Refused-Recipients");
    var tag = lend("guesser");
    if (!c.gatepost_policy_message_method_content_prepend_header(content, &name, &number, &fault)) @panic("header");
    if (!c.gatepost_policy_message_method_transaction_add_tag(transaction, &tag, &fault)) @panic("tag");
    ret.reason = some(print("{s} refused before", .{slice(number)}));
    ret.rule = some(copy("guesser"));
}

fn isRefused(address: []const u8) bool {
    for (settings.refused) |refused| {
        if (std.ascii.eqlIgnoreCase(refused, address)) return true;
    }
    return false;
}

/// One more refusal for this client; how many that makes within the hour.
fn countRefusal(session: c.gatepost_policy_message_borrow_session_t) i64 {
    var key = clientKey(session);
    defer c.guest_string_free(&key);
    var ttl: u32 = hour;
    var refusals: i64 = 0;
    var fault: c.gatepost_policy_types_host_error_t = undefined;
    if (!c.gatepost_policy_kv_increment(&key, 1, &ttl, &refusals, &fault)) {
        // Without the store nobody is disconnected.
        log(c.GATEPOST_POLICY_LOG_LEVEL_WARN, "refusals are not counted", "store", "no answer");
        c.gatepost_policy_types_host_error_free(&fault);
        return 0;
    }
    var digits: [24]u8 = undefined;
    const text = std.fmt.bufPrint(&digits, "{d}", .{refusals}) catch unreachable;
    log(c.GATEPOST_POLICY_LOG_LEVEL_INFO, "refused", "refusals", text);
    return refusals;
}

fn clientKey(session: c.gatepost_policy_message_borrow_session_t) c.guest_string_t {
    var info: c.gatepost_policy_types_session_info_t = undefined;
    c.gatepost_policy_message_method_session_info(session, &info);
    defer c.gatepost_policy_types_session_info_free(&info);
    return print("refused/{s}", .{slice(info.client.ip)});
}

fn log(level: c.gatepost_policy_log_level_t, message: []const u8, name: []const u8, value: []const u8) void {
    var text = lend(message);
    var field: c.guest_tuple2_string_string_t = .{ .f0 = lend(name), .f1 = lend(value) };
    var fields: c.guest_list_tuple2_string_string_t = .{ .ptr = &field, .len = 1 };
    c.gatepost_policy_log_write(level, &text, &fields);
}

fn reply(code: u16, subject: u16, detail: u16, text: c.guest_string_t) c.gatepost_policy_types_reply_t {
    const line = gpa.create(c.guest_string_t) catch @panic("memory");
    line.* = text;
    return .{
        .code = code,
        .enhanced = .{ .is_some = true, .val = .{ .subject = subject, .detail = detail } },
        .lines = .{ .ptr = line, .len = 1 },
    };
}

fn some(text: c.guest_string_t) c.guest_option_string_t {
    return .{ .is_some = true, .val = text };
}

/// For the host to keep.
fn copy(text: []const u8) c.guest_string_t {
    return print("{s}", .{text});
}

fn print(comptime format: []const u8, values: anytype) c.guest_string_t {
    const text = std.fmt.allocPrint(gpa, format, values) catch @panic("memory");
    return .{ .ptr = text.ptr, .len = text.len };
}

/// For the length of one call into the host, which does not write to it.
fn lend(text: []const u8) c.guest_string_t {
    return .{ .ptr = @constCast(text.ptr), .len = text.len };
}

fn slice(text: c.guest_string_t) []const u8 {
    return text.ptr[0..text.len];
}
