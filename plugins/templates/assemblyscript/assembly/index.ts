// Refuses recipients who have left, and clients that go on guessing.

import * as host from "./host";
import { Decision, Registration, Verdict, reply } from "./decision";

const HOUR: u32 = 3600;

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
const refused = new Set<string>(); // addresses, in lower case
let patience: i64 = 3; // so many refusals in an hour, then the client is disconnected

export function configure(): usize {
  const list = host.config("refused");
  if (list == null || !list.startsWith("[")) {
    return Registration.fault("`refused` has to be a list of addresses");
  }
  for (let place = 0; ; place++) {
    const address = host.config("refused." + place.toString());
    if (address == null) break;
    refused.add(address.toLowerCase());
  }
  const limit = host.config("patience");
  if (limit != null) {
    patience = I64.parseInt(limit);
    if (patience < 0 || patience.toString() != limit) {
      return Registration.fault("`patience` has to be a number from 0 on");
    }
  }
  return Registration.ok("{{name}}", "0.1.0", "Refuses recipients who have left");
}

export function rcpt(session: host.Session, transaction: host.Transaction, recipient: string): Decision {
  const address = recipient.toLowerCase();
  if (!refused.has(address)) return new Decision(Verdict.Next);
  const refusals = count(session.clientAddress());
  if (refusals > patience) {
    return new Decision(Verdict.Disconnect)
      .saying(reply(421, 7, 0, "Too many recipients who are not here"))
      .because("refusal " + refusals.toString() + " within the hour")
      .by("patience");
  }
  return new Decision(Verdict.Reject)
    .saying(reply(550, 1, 1, address + " is not here any more"))
    .because(address + " is listed")
    .by("refused");
}

export function data(session: host.Session, transaction: host.Transaction, content: host.Content): Decision {
  const refusals = host.kvGet(key(session.clientAddress()));
  if (refusals == null) return new Decision(Verdict.Next);
  content.prependHeader("X-Refused-Recipients", refusals);
  transaction.addTag("guesser");
  return new Decision(Verdict.Next).because(refusals + " refused before").by("guesser");
}

// One more refusal for this client; how many that makes within the hour.
function count(client: string): i64 {
  const refusals = host.kvIncrement(key(client), 1, HOUR);
  if (refusals < 0) {
    host.log(host.Level.Warn, "refusals are not counted", "store", "no answer");
    return 0; // without the store nobody is disconnected
  }
  host.log(host.Level.Info, "refused", "refusals", refusals.toString());
  return refusals;
}

function key(client: string): string {
  return "refused/" + client;
}
