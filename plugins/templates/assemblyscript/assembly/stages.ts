// What the host asks the plugin: the exports of `wit/guest.wit`. The functions here have the forms of the canonical ABI, and
// `exports.mjs` gives them the names of the contract.

import { Content, Session, Transaction } from "./host";
import * as plugin from "./index";

export { cabi_realloc } from "./memory";

export function configure(): usize {
  return plugin.configure();
}

export function rcpt(
  session: i32, transaction: i32, address: usize, length: u32, original: usize, original_length: u32,
  has_notify: i32, notify: usize, notify_length: u32, has_orcpt: i32, orcpt: usize, orcpt_length: u32,
): usize {
  const s = new Session(session);
  const t = new Transaction(transaction);
  const decision = plugin.rcpt(s, t, String.UTF8.decodeUnsafe(address, length));
  s.drop();
  t.drop();
  return decision.at;
}

export function data(session: i32, transaction: i32, content: i32): usize {
  const s = new Session(session);
  const t = new Transaction(transaction);
  const c = new Content(content);
  const decision = plugin.data(s, t, c);
  s.drop();
  t.drop();
  c.drop();
  return decision.at;
}
