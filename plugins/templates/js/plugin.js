// Refuses recipients who have left, and clients that go on guessing.

import * as config from "gatepost:policy/config@0.1.0";
import * as kv from "gatepost:policy/kv@0.1.0";
import * as log from "gatepost:policy/log@0.1.0";

const HOUR = 3600;

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
let refused = new Set(); // addresses, in lower case
let patience = 3; // so many refusals in an hour, then the client is disconnected

export const configure = {
  configure() {
    const table = JSON.parse(config.json());
    if (!Array.isArray(table.refused) || !table.refused.every((one) => typeof one === "string")) {
      throw "`refused` has to be a list of addresses";
    }
    patience = table.patience ?? 3;
    if (!Number.isInteger(patience) || patience < 0) {
      throw "`patience` has to be a number from 0 on";
    }
    refused = new Set(table.refused.map((one) => one.toLowerCase()));
    return { name: "{{name}}", version: "0.1.0", description: "Refuses recipients who have left" };
  },
};

export const onRcpt = {
  rcpt(session, transaction, recipient) {
    const address = recipient.address.toLowerCase();
    if (!refused.has(address)) {
      return { verdict: { tag: "next" } };
    }
    const refusals = count(session.info().client.ip);
    if (refusals > patience) {
      const verdict = { tag: "disconnect", val: reply(421, 7, 0, "Too many recipients who are not here") };
      return { verdict, reason: `refusal ${refusals} within the hour`, rule: "patience" };
    }
    const verdict = { tag: "reject", val: reply(550, 1, 1, `${address} is not here any more`) };
    return { verdict, reason: `${address} is listed`, rule: "refused" };
  },
};

export const onData = {
  data(session, transaction, content) {
    const refusals = kv.get(key(session.info().client.ip));
    if (refusals === undefined) {
      return { verdict: { tag: "next" } };
    }
    const number = String.fromCharCode(...refusals);
    content.prependHeader("X-Refused-Recipients", number);
    transaction.addTag("guesser");
    return { verdict: { tag: "next" }, reason: `${number} refused before`, rule: "guesser" };
  },
};

// One more refusal for this client; how many that makes within the hour.
function count(client) {
  try {
    const refusals = kv.increment(key(client), 1n, HOUR);
    log.write("info", "refused", [["client", client], ["refusals", `${refusals}`]]);
    return refusals;
  } catch (error) {
    // Without the store nobody is disconnected.
    log.write("warn", "refusals are not counted", [["error", JSON.stringify(error.payload)]]);
    return 0n;
  }
}

function reply(code, subject, detail, text) {
  return { code, enhanced: { subject, detail }, lines: [text] };
}

function key(client) {
  return `refused/${client}`;
}
