@file:JsModule("gatepost:policy/kv@0.1.0")
@file:JsNonModule

package contract.kv

import contract.Uint8Array

/** What the store has; null if nothing. */
external fun get(key: String): Uint8Array?

/** The sum. */
external fun increment(key: String, delta: Long, ttl: Int?): Long
