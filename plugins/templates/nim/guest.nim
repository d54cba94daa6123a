## The contract as far as it is used, over the C bindings that wit-bindgen makes (`generated/guest.h`).

{.pragma: c, importc, header: "generated/guest.h".}

type
  Text* {.c, importc: "guest_string_t".} = object
    `ptr`*: pointer
    len*: csize_t
  OptionalText* {.c, importc: "guest_option_string_t".} = object
    is_some*: bool
    val*: Text
  Pair* {.c, importc: "guest_tuple2_string_string_t".} = object
    f0*, f1*: Text
  Pairs* {.c, importc: "guest_list_tuple2_string_string_t".} = object
    `ptr`*: ptr Pair
    len*: csize_t
  Texts* {.c, importc: "guest_list_string_t".} = object
    `ptr`*: ptr Text
    len*: csize_t
  Octets* {.c, importc: "guest_list_u8_t".} = object
    `ptr`*: pointer
    len*: csize_t
  OptionalOctets* {.c, importc: "guest_option_list_u8_t".} = object
    is_some*: bool
    val*: Octets
  HostError* {.c, importc: "gatepost_policy_types_host_error_t".} = object
  EnhancedStatus* {.c, importc: "gatepost_policy_types_enhanced_status_t".} = object
    subject*, detail*: uint16
  OptionalStatus* {.c, importc: "gatepost_policy_types_option_enhanced_status_t".} = object
    is_some*: bool
    val*: EnhancedStatus
  Reply* {.c, importc: "gatepost_policy_types_reply_t".} = object
    code*: uint16
    enhanced*: OptionalStatus
    lines*: Texts
  Endpoint* {.c, importc: "gatepost_policy_types_endpoint_t".} = object
    ip*: Text
  SessionInfo* {.c, importc: "gatepost_policy_types_session_info_t".} = object
    client*: Endpoint
  Recipient* {.c, importc: "gatepost_policy_types_recipient_t".} = object
    address*: Text
  Session* {.c, importc: "gatepost_policy_message_borrow_session_t".} = object
  Transaction* {.c, importc: "gatepost_policy_message_borrow_transaction_t".} = object
  Content* {.c, importc: "gatepost_policy_message_borrow_content_t".} = object
  Registration* {.c, importc: "exports_gatepost_policy_configure_registration_t".} = object
    name*, version*, description*: Text
  RcptReply* {.c, importc: "exports_gatepost_policy_on_rcpt_option_reply_t".} = object
    is_some*: bool
    val*: Reply
  RcptReplies {.c, importc: "exports_gatepost_policy_on_rcpt_verdict_t".} = object
    tag*: uint8
  RcptDecision* {.c, importc: "exports_gatepost_policy_on_rcpt_decision_t".} = object
    verdict*: RcptReplies
    reason*, rule*: OptionalText
  DataDecision* {.c, importc: "exports_gatepost_policy_on_data_decision_t".} = object
    reason*, rule*: OptionalText

let
  next* {.c, importc: "EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_NEXT".}: uint8
  reject* {.c, importc: "EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_REJECT".}: uint8
  disconnect* {.c, importc: "EXPORTS_GATEPOST_POLICY_ON_RCPT_VERDICT_DISCONNECT".}: uint8
  info* {.c, importc: "GATEPOST_POLICY_LOG_LEVEL_INFO".}: uint8
  warn* {.c, importc: "GATEPOST_POLICY_LOG_LEVEL_WARN".}: uint8

proc copyText(to: ptr Text, text: cstring, length: csize_t) {.c, importc: "guest_string_dup_n".}
proc free*(text: ptr Text) {.c, importc: "guest_string_free".}
proc free*(octets: ptr OptionalOctets) {.c, importc: "guest_option_list_u8_free".}
proc free*(info: ptr SessionInfo) {.c, importc: "gatepost_policy_types_session_info_free".}
proc free*(recipient: ptr Recipient) {.c, importc: "gatepost_policy_types_recipient_free".}
proc free*(error: ptr HostError) {.c, importc: "gatepost_policy_types_host_error_free".}
proc malloc(size: csize_t): pointer {.importc, header: "<stdlib.h>".}
proc configGet(key, value: ptr Text): bool {.c, importc: "gatepost_policy_config_get".}
proc kvGet*(key: ptr Text, value: ptr OptionalOctets, error: ptr HostError): bool {.c, importc: "gatepost_policy_kv_get".}
proc kvIncrement*(key: ptr Text, delta: int64, ttl: ptr uint32, sum: ptr int64, error: ptr HostError): bool
  {.c, importc: "gatepost_policy_kv_increment".}
proc logWrite(level: uint8, message: ptr Text, fields: ptr Pairs) {.c, importc: "gatepost_policy_log_write".}
proc sessionInfo(session: Session, info: ptr SessionInfo) {.c, importc: "gatepost_policy_message_method_session_info".}
proc prependHeader*(content: Content, name, value: ptr Text, error: ptr HostError): bool
  {.c, importc: "gatepost_policy_message_method_content_prepend_header".}
proc addTag*(transaction: Transaction, tag: ptr Text, error: ptr HostError): bool
  {.c, importc: "gatepost_policy_message_method_transaction_add_tag".}

proc read(at: pointer, length: csize_t): string =
  result = newString(length)
  if length > 0: copyMem(addr result[0], at, length)

proc `$`*(text: Text): string = read(text.`ptr`, text.len)
proc `$`*(octets: Octets): string = read(octets.`ptr`, octets.len)

proc copy*(text: string): Text =
  ## For the other side to keep, and to free.
  copyText(addr result, text.cstring, text.len.csize_t)

proc lend*(text: string): Text =
  ## For the length of one call into the host, as long as `text` lives.
  Text(`ptr`: cast[pointer](text.cstring), len: text.len.csize_t)

proc some*(text: string): OptionalText = OptionalText(is_some: true, val: copy(text))

proc reply*(code, subject, detail: uint16, text: string): Reply =
  let line = cast[ptr Text](malloc(sizeof(Text).csize_t))
  line[] = copy(text)
  result.code = code
  result.enhanced = OptionalStatus(is_some: true, val: EnhancedStatus(subject: subject, detail: detail))
  result.lines = Texts(`ptr`: line, len: 1)

proc answer*(decision: ptr RcptDecision, verdict: uint8, reply: Reply) =
  ## A verdict with a reply: all that have one keep it in the same place.
  decision.verdict.tag = verdict
  let at {.codegenDecl: "$# $#".} = RcptReply(is_some: true, val: reply)
  {.emit: [decision, "->verdict.val.reject = ", at, ";"].}

proc config*(key: string, value: var string): bool =
  ## A value of the configuration; "a.0" reaches into a list.
  var name = lend(key)
  var text: Text
  if configGet(addr name, addr text):
    value = $text
    free(addr text)
    return true

proc clientAddress*(session: Session): string =
  var info: SessionInfo
  sessionInfo(session, addr info)
  result = $info.client.ip
  free(addr info)

proc log*(level: uint8, message, name, value: string) =
  var text = lend(message)
  var field = Pair(f0: lend(name), f1: lend(value))
  var fields = Pairs(`ptr`: addr field, len: 1)
  logWrite(level, addr text, addr fields)
