/// Text, replies and the host's functions in D's words, over the C bindings that wit-bindgen makes (`generated/contract.c`, `generated/numbers.d`).
module guest;

public import contract;
public import numbers;

alias Reply = gatepost_policy_types_reply_t;
alias Session = gatepost_policy_message_borrow_session_t;
alias Transaction = gatepost_policy_message_borrow_transaction_t;
alias Content = gatepost_policy_message_borrow_content_t;
alias Recipient = gatepost_policy_types_recipient_t;
alias HostError = gatepost_policy_types_host_error_t;
alias Registration = exports_gatepost_policy_configure_registration_t;
alias RcptDecision = exports_gatepost_policy_on_rcpt_decision_t;
alias DataDecision = exports_gatepost_policy_on_data_decision_t;

// What is used of the C library.
extern (C) nothrow @nogc
{
    void* malloc(size_t size);
    void* realloc(void* at, size_t size);
    void* memcpy(void* to, const void* from, size_t size);
    noreturn abort();

    /// An index that is out of bounds ends the call: `on-error` decides.
    void __assert(const char* what, const char* file, int line)
    {
        abort();
    }
}

/// What the host gave, as D has it. It lives as long as what it was made of.
const(char)[] text(const ref guest_string_t given)
{
    return (cast(const(char)*) given.ptr)[0 .. given.len];
}

/// Ditto
const(char)[] text(const ref guest_list_u8_t given)
{
    return (cast(const(char)*) given.ptr)[0 .. given.len];
}

/// For the length of one call into the host, as long as `text` lives.
guest_string_t lend(const(char)[] text)
{
    return guest_string_t(cast(ubyte*) text.ptr, text.length);
}

/// Put together, for the other side to keep, and to free.
guest_string_t copy(scope const(char)[][] parts...)
{
    size_t length = 0;
    foreach (part; parts)
        length += part.length;
    auto all = (cast(char*) malloc(length + 1))[0 .. length];
    size_t at = 0;
    foreach (part; parts)
    {
        memcpy(all.ptr + at, part.ptr, part.length);
        at += part.length;
    }
    return guest_string_t(cast(ubyte*) all.ptr, length);
}

/// Ditto
guest_option_string_t some(scope const(char)[][] parts...)
{
    return guest_option_string_t(true, copy(parts));
}

/// A reply with one line of text.
exports_gatepost_policy_on_rcpt_option_reply_t reply(ushort code, ushort subject, ushort detail, scope const(char)[][] parts...)
{
    auto line = cast(guest_string_t*) malloc(guest_string_t.sizeof);
    *line = copy(parts);
    typeof(return) reply;
    reply.is_some = true;
    reply.val.code = code;
    reply.val.enhanced.is_some = true;
    reply.val.enhanced.val = gatepost_policy_types_enhanced_status_t(subject, detail);
    reply.val.lines = guest_list_string_t(line, 1);
    return reply;
}

/// A number in decimal digits.
struct Decimal
{
    private char[20] digits;
    private size_t first = digits.length;

    this(ulong number)
    {
        do
        {
            digits[--first] = cast(char)('0' + number % 10);
            number /= 10;
        }
        while (number > 0);
    }

    const(char)[] text() const return
    {
        return digits[first .. $];
    }
}

/// A value of the configuration, to be kept; `null` if there is none. `a.0` reaches into a list.
const(char)[] config(scope const(char)[][] key...)
{
    guest_string_t name = copy(key), value;
    const found = gatepost_policy_config_get(&name, &value);
    guest_string_free(&name);
    return found ? text(value) : null;
}

/// One line in the server's log.
void log(ubyte level, const(char)[] message, const(char)[] name, const(char)[] value)
{
    auto words = lend(message);
    auto field = guest_tuple2_string_string_t(lend(name), lend(value));
    auto fields = guest_list_tuple2_string_string_t(&field, 1);
    gatepost_policy_log_write(level, &words, &fields);
}
