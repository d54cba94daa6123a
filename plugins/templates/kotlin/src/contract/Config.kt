@file:JsModule("gatepost:policy/config@0.1.0")
@file:JsNonModule

package contract.config

/** The configuration as JSON. */
external fun json(): String
