@file:JsModule("gatepost:policy/log@0.1.0")
@file:JsNonModule

package contract.log

/** `level` is "trace", "debug", "info", "warn" or "error"; a field is a name and a value. */
external fun write(level: String, message: String, fields: Array<Array<String>>)
