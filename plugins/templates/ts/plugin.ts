// Refuses recipients who have left, and clients that go on guessing.

/// <reference path="generated/guest.d.ts" />
import * as config from "gatepost:policy/config@0.1.0";
import * as kv from "gatepost:policy/kv@0.1.0";
import * as log from "gatepost:policy/log@0.1.0";
import type * as guest from "gatepost:policy/guest@0.1.0";
import type { HostError, Reply } from "gatepost:policy/types@0.1.0";

const HOUR = 3600;

interface Settings {
  /** Addresses, in lower case. */
  refused: Set<string>;
  /** So many refusals in an hour, then the client is disconnected. */
  patience: number;
}

// A cache: an instance may vanish between any two stages and be configured anew. What has to
// outlive a call belongs in kv.
let settings: Settings;

export const configure: typeof guest.configure = {
  configure() {
    settings = read(JSON.parse(config.json()));
    return { name: "{{name}}", version: "0.1.0", description: "Refuses recipients who have left" };
  },
};

export const onRcpt: typeof guest.onRcpt = {
  rcpt(session, _transaction, recipient) {
    const address = recipient.address.toLowerCase();
    if (!settings.refused.has(address)) {
      return { verdict: { tag: "next" } };
    }
    const refusals = count(session.info().client.ip);
    if (refusals > settings.patience) {
      const val = reply(421, 7, 0, "Too many recipients who are not here");
      return { verdict: { tag: "disconnect", val }, reason: `refusal ${refusals} within the hour`, rule: "patience" };
    }
    const val = reply(550, 1, 1, `${address} is not here any more`);
    return { verdict: { tag: "reject", val }, reason: `${address} is listed`, rule: "refused" };
  },
};

export const onData: typeof guest.onData = {
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

/** What is thrown here keeps the plugin from going live, and the administrator reads it. */
function read({ refused, patience = 3 }: { refused?: unknown; patience?: unknown }): Settings {
  if (!Array.isArray(refused) || !refused.every((one) => typeof one === "string")) {
    throw "`refused` has to be a list of addresses";
  }
  if (typeof patience !== "number" || !Number.isInteger(patience) || patience < 0) {
    throw "`patience` has to be a number from 0 on";
  }
  return { refused: new Set(refused.map((one) => one.toLowerCase())), patience };
}

/** One more refusal for this client; how many that makes within the hour. */
function count(client: string): number {
  try {
    const refusals = kv.increment(key(client), 1n, HOUR);
    log.write("info", "refused", [["client", client], ["refusals", `${refusals}`]]);
    return Number(refusals);
  } catch (error) {
    // Without the store nobody is disconnected.
    const { payload } = error as { payload: HostError };
    log.write("warn", "refusals are not counted", [["error", JSON.stringify(payload)]]);
    return 0;
  }
}

function reply(code: number, subject: number, detail: number, text: string): Reply {
  return { code, enhanced: { subject, detail }, lines: [text] };
}

function key(client: string): string {
  return `refused/${client}`;
}
