// What the plugin answers, as it lies in memory.

import { Text, room } from "./memory";

/** The verdicts that `rcpt` and `data` have in common. */
export enum Verdict { Next, Accept, Reject, Defer, Disconnect, Discard }

/** A reply of one line: 20 octets. */
export function reply(code: u16, subject: u16, detail: u16, text: string): usize {
  const at = room(16);
  store<u16>(at, code);
  store<u8>(at, 1, 2); // there is an enhanced code
  store<u16>(at, subject, 4);
  store<u16>(at, detail, 6);
  const line = room(8);
  new Text(text).store(line);
  store<u32>(at, <u32>line, 8);
  store<u32>(at, 1, 12);
  return at;
}

/** A decision of `rcpt` or `data`: 48 octets. */
export class Decision {
  at: usize = room(48);
  constructor(verdict: Verdict) { store<u8>(this.at, <u8>verdict); }

  saying(reply: usize): Decision {
    store<u8>(this.at, 1, 4);
    memory.copy(this.at + 8, reply, 16);
    return this;
  }
  because(reason: string): Decision {
    store<u8>(this.at, 1, 24);
    new Text(reason).store(this.at + 28);
    return this;
  }
  by(rule: string): Decision {
    store<u8>(this.at, 1, 36);
    new Text(rule).store(this.at + 40);
    return this;
  }
}

export namespace Registration {
  export function ok(name: string, version: string, description: string): usize {
    const at = room(28);
    new Text(name).store(at + 4);
    new Text(version).store(at + 12);
    new Text(description).store(at + 20);
    return at;
  }
  /** Keeps the plugin from going live; the administrator reads it. */
  export function fault(text: string): usize {
    const at = room(28);
    store<u8>(at, 1);
    new Text(text).store(at + 4);
    return at;
  }
}
