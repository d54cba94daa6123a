// Refuses recipients who have left, and clients that go on guessing.

@file:OptIn(ExperimentalJsExport::class)

import contract.*
import contract.config.json
import contract.kv.get
import contract.kv.increment
import contract.log.write

private const val HOUR = 3600

private class Settings(
    /** Addresses, in lower case. */
    val refused: Set<String>,
    /** So many refusals in an hour, then the client is disconnected. */
    val patience: Int,
)

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
private lateinit var settings: Settings

/** What is thrown here keeps the plugin from going live, and the administrator reads it. */
@JsExport
fun configure(): Registration {
    settings = read(JSON.parse(json()))
    return Registration("{{name}}", "0.1.0", "Refuses recipients who have left")
}

@JsExport
fun rcpt(session: Session, transaction: Transaction, recipient: Recipient): Decision {
    val address = recipient.address.lowercase()
    if (address !in settings.refused) return Decision()
    val refusals = count(session)
    return if (refusals > settings.patience) {
        val reply = Reply(421, EnhancedStatus(7, 0), arrayOf("Too many recipients who are not here"))
        Decision(Verdict("disconnect", reply), reason = "refusal $refusals within the hour", rule = "patience")
    } else {
        val reply = Reply(550, EnhancedStatus(1, 1), arrayOf("$address is not here any more"))
        Decision(Verdict("reject", reply), reason = "$address is listed", rule = "refused")
    }
}

@JsExport
fun data(session: Session, transaction: Transaction, content: Content): Decision {
    val refusals = get(key(session))?.let { TextDecoder().decode(it) } ?: return Decision()
    content.prependHeader("X-Refused-Recipients", refusals)
    transaction.addTag("guesser")
    return Decision(reason = "$refusals refused before", rule = "guesser")
}

private fun read(table: dynamic): Settings {
    val refused: Any? = table.refused
    require(refused is Array<*> && refused.all { it is String }) { "`refused` has to be a list of addresses" }
    val patience: Any = table.patience ?: 3
    require(patience is Int && patience >= 0) { "`patience` has to be a number from 0 on" }
    return Settings(refused.map { (it as String).lowercase() }.toSet(), patience)
}

private fun key(session: Session) = "refused/${session.info().client.ip}"

/** One more refusal for this client; how many that makes within the hour. */
private fun count(session: Session): Long =
    try {
        val refusals = increment(key(session), 1, HOUR)
        write("info", "refused", arrayOf(arrayOf("refusals", "$refusals")))
        refusals
    } catch (error: dynamic) { // without the store nobody is disconnected
        write("warn", "refusals are not counted", arrayOf(arrayOf("error", "${error.payload.tag}")))
        0
    }
