/// Refuses recipients who have left, and clients that go on guessing.
module plugin;

import guest;

extern (C):

private enum uint hour = 3600;

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
private __gshared const(char)[][] refused; // addresses, in lower case
private __gshared ulong patience = 3; // so many refusals in an hour, then the client is disconnected

// Returns what is wrong with the configuration, or `null`.
private const(char)[] readSettings()
{
    const list = config("refused");
    if (list.length == 0 || list[0] != '[')
        return "`refused` has to be a list of addresses";
    for (;;)
    {
        const place = Decimal(refused.length);
        auto address = cast(char[]) config("refused.", place.text);
        if (address is null)
            break;
        toLower(address);
        auto grown = cast(const(char)[]*) realloc(refused.ptr, (refused.length + 1) * address.sizeof);
        refused = grown[0 .. refused.length + 1];
        refused[$ - 1] = address;
    }
    const limit = config("patience");
    if (limit is null)
        return null;
    patience = 0;
    foreach (digit; limit)
    {
        if (digit < '0' || digit > '9' || patience > uint.max)
            return "`patience` has to be a number from 0 on";
        patience = patience * 10 + (digit - '0');
    }
    return limit.length > 0 ? null : "`patience` has to be a number from 0 on";
}

private void toLower(char[] address)
{
    foreach (ref letter; address)
        if (letter >= 'A' && letter <= 'Z')
            letter += 'a' - 'A';
}

private bool isRefused(const(char)[] address)
{
    foreach (one; refused)
        if (one == address)
            return true;
    return false;
}

// The key of kv under which the refusals of this client are counted.
private guest_string_t key(Session session)
{
    gatepost_policy_types_session_info_t info;
    gatepost_policy_message_method_session_info(session, &info);
    auto key = copy("refused/", text(info.client.ip));
    gatepost_policy_types_session_info_free(&info);
    return key;
}

// One more refusal for this client; how many that makes within the hour.
private ulong count(Session session)
{
    auto name = session.key;
    uint ttl = hour;
    long refusals = 0;
    HostError error;
    if (gatepost_policy_kv_increment(&name, 1, &ttl, &refusals, &error))
        log(GATEPOST_POLICY_LOG_LEVEL_INFO, "refused", "refusals", Decimal(refusals).text);
    else
    { // without the store nobody is disconnected
        log(GATEPOST_POLICY_LOG_LEVEL_WARN, "refusals are not counted", "store", "no answer");
        gatepost_policy_types_host_error_free(&error);
    }
    guest_string_free(&name);
    return refusals;
}

export bool exports_gatepost_policy_configure_configure(Registration* ret, guest_string_t* err)
{
    if (const fault = readSettings())
    {
        *err = copy(fault);
        return false;
    }
    ret.name = copy("{{name}}");
    __traits(getMember, ret, "version") = copy("0.1.0"); // a word of D's own
    ret.description = copy("Refuses recipients who have left");
    return true;
}

export void exports_gatepost_policy_on_rcpt_rcpt(Session session, Transaction transaction, Recipient* recipient, RcptDecision* ret)
{
    *ret = RcptDecision.init; // `next`, without reason and rule
    auto kept = copy(text(recipient.address));
    gatepost_policy_types_recipient_free(recipient);
    auto address = cast(char[]) text(kept);
    toLower(address);
    if (isRefused(address))
    {
        const refusals = session.count;
        if (refusals > patience)
        {
            ret.verdict.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT;
            ret.verdict.val.disconnect = reply(421, 7, 0, "Too many recipients who are not here");
            ret.reason = some("refusal ", Decimal(refusals).text, " within the hour");
            ret.rule = some("patience");
        }
        else
        {
            ret.verdict.tag = EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT;
            ret.verdict.val.reject = reply(550, 1, 1, address, " is not here any more");
            ret.reason = some(address, " is listed");
            ret.rule = some("refused");
        }
    }
    guest_string_free(&kept);
}

export void exports_gatepost_policy_on_data_data(Session session, Transaction transaction, Content content, DataDecision* ret)
{
    *ret = DataDecision.init;
    auto name = session.key;
    guest_option_list_u8_t refusals;
    HostError error;
    if (!gatepost_policy_kv_get(&name, &refusals, &error))
        abort(); // the call fails: `on-error` decides
    guest_string_free(&name);
    if (!refusals.is_some)
        return;
    auto field = lend("X-Refused-Recipients"), number = lend(text(refusals.val)), tag = lend("guesser");
    if (!gatepost_policy_message_method_content_prepend_header(content, &field, &number, &error))
        abort();
    if (!gatepost_policy_message_method_transaction_add_tag(transaction, &tag, &error))
        abort();
    ret.reason = some(text(number), " refused before");
    ret.rule = some("guesser");
    guest_option_list_u8_free(&refusals);
}
