// The contract as far as it is used: what the stages are given, and what they return.

@file:OptIn(ExperimentalJsExport::class)

package contract

external interface Endpoint { val ip: String }
external interface SessionInfo { val client: Endpoint }
external interface Session { fun info(): SessionInfo }
external interface Recipient { val address: String }
external interface Transaction { fun addTag(tag: String) }
external interface Content { fun prependHeader(name: String, value: String) }

/** Of JavaScript. */
external class Uint8Array
external class TextDecoder { fun decode(octets: Uint8Array): String }

// What JavaScript reads keeps its names by `JsExport`.
@JsExport class Registration(val name: String, val version: String, val description: String)
@JsExport class EnhancedStatus(val subject: Int, val detail: Int)
@JsExport class Reply(val code: Int, val enhanced: EnhancedStatus?, val lines: Array<String>)
@JsExport class Verdict(val tag: String, @JsName("val") val reply: Reply? = null)
@JsExport class Decision(val verdict: Verdict = Verdict("next"), val reason: String? = null, val rule: String? = null)
