## Refuses recipients who have left, and clients that go on guessing.

import std/[sets, strutils]
import guest

const hour = 3600'u32

# A cache: an instance may vanish between any two stages and be configured anew. What has to
# outlive a call belongs in kv.
var
  refused: HashSet[string]  # addresses, in lower case
  patience = 3'i64          # so many refusals in an hour, then the client is disconnected

proc NimMain() {.importc.}
proc abort() {.importc, header: "<stdlib.h>", noreturn.}

proc readSettings(): string =
  ## What is wrong with the configuration; empty if nothing.
  var value: string
  if not config("refused", value) or not value.startsWith('['):
    return "`refused` has to be a list of addresses"
  var place = 0
  while config("refused." & $place, value):
    refused.incl value.toLowerAscii
    inc place
  if config("patience", value):
    if value.len == 0 or value.len > 9 or not value.allCharsInSet(Digits):
      return "`patience` has to be a number from 0 on"
    patience = parseInt(value)

proc key(session: Session): string = "refused/" & session.clientAddress

proc count(session: Session): int64 =
  ## One more refusal for this client; how many that makes within the hour.
  let key = session.key
  var
    name = lend(key)
    ttl = hour
    error: HostError
  if kvIncrement(addr name, 1, addr ttl, addr result, addr error):
    log(info, "refused", "refusals", $result)
  else:  # without the store nobody is disconnected
    log(warn, "refusals are not counted", "store", "no answer")
    free(addr error)
    result = 0

proc configure(ret: ptr Registration, err: ptr Text): bool
    {.exportc: "exports_gatepost_policy_configure_configure", codegenDecl: "$# $#$#".} =
  NimMain()
  let fault = readSettings()
  if fault != "":
    err[] = copy(fault)
    return false
  ret[] = Registration(
    name: copy("{{name}}"), version: copy("0.1.0"), description: copy("Refuses recipients who have left"))
  true

proc rcpt(session: Session, transaction: Transaction, recipient: ptr Recipient, ret: ptr RcptDecision)
    {.exportc: "exports_gatepost_policy_on_rcpt_rcpt", codegenDecl: "$# $#$#".} =
  zeroMem(ret, sizeof(RcptDecision))  # `next`, without reason and rule
  let address = ($recipient.address).toLowerAscii
  free(recipient)
  if address notin refused: return
  let refusals = session.count
  if refusals > patience:
    ret.answer(disconnect, reply(421, 7, 0, "Too many recipients who are not here"))
    ret.reason = some("refusal " & $refusals & " within the hour")
    ret.rule = some("patience")
  else:
    ret.answer(reject, reply(550, 1, 1, address & " is not here any more"))
    ret.reason = some(address & " is listed")
    ret.rule = some("refused")

proc data(session: Session, transaction: Transaction, content: Content, ret: ptr DataDecision)
    {.exportc: "exports_gatepost_policy_on_data_data", codegenDecl: "$# $#$#".} =
  zeroMem(ret, sizeof(DataDecision))
  let key = session.key
  var
    name = lend(key)
    refusals: OptionalOctets
    error: HostError
  if not kvGet(addr name, addr refusals, addr error): abort()  # the call fails: `on-error` decides
  if not refusals.is_some: return
  let number = $refusals.val
  free(addr refusals)
  var
    field = lend("X-Refused-Recipients")
    value = lend(number)
    tag = lend("guesser")
  if not content.prependHeader(addr field, addr value, addr error): abort()
  if not transaction.addTag(addr tag, addr error): abort()
  ret.reason = some(number & " refused before")
  ret.rule = some("guesser")
