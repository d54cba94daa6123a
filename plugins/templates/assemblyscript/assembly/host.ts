// What the plugin asks the host: the imports of `wit/guest.wit`, as far as they are used.

import { Text, area, load_text } from "./memory";

export enum Level { Trace, Debug, Info, Warn, Error }

@external("gatepost:policy/config@0.1.0", "get")
declare function config_get(key: usize, length: u32, ret: usize): void;
@external("gatepost:policy/kv@0.1.0", "get")
declare function kv_get(key: usize, length: u32, ret: usize): void;
@external("gatepost:policy/kv@0.1.0", "increment")
declare function kv_increment(key: usize, length: u32, delta: i64, has_ttl: i32, ttl: u32, ret: usize): void;
@external("gatepost:policy/log@0.1.0", "write")
declare function log_write(level: i32, message: usize, length: u32, fields: usize, count: u32): void;
@external("gatepost:policy/message@0.1.0", "[method]session.info")
declare function session_info(self: i32, ret: usize): void;
@external("gatepost:policy/message@0.1.0", "[method]content.prepend-header")
declare function prepend_header(self: i32, name: usize, name_length: u32, value: usize, value_length: u32, ret: usize): void;
@external("gatepost:policy/message@0.1.0", "[method]transaction.add-tag")
declare function add_tag(self: i32, tag: usize, length: u32, ret: usize): void;
// A borrowed handle goes back before the stage returns.
@external("gatepost:policy/message@0.1.0", "[resource-drop]session")
declare function drop_session(self: i32): void;
@external("gatepost:policy/message@0.1.0", "[resource-drop]transaction")
declare function drop_transaction(self: i32): void;
@external("gatepost:policy/message@0.1.0", "[resource-drop]content")
declare function drop_content(self: i32): void;

/** A value of the configuration; "a.0" reaches into a list. */
export function config(key: string): string | null {
  const name = new Text(key);
  config_get(name.pointer, name.length, area);
  return load<u8>(area) == 0 ? null : load_text(area + 4);
}

/** A value of the store as text. No answer ends the call: `on-error` decides. */
export function kvGet(key: string): string | null {
  const name = new Text(key);
  kv_get(name.pointer, name.length, area);
  assert(load<u8>(area) == 0, "no answer from the store");
  return load<u8>(area, 4) == 0 ? null : load_text(area + 8);
}

/** The sum; -1 if the store gives no answer. */
export function kvIncrement(key: string, delta: i64, ttl: u32): i64 {
  const name = new Text(key);
  kv_increment(name.pointer, name.length, delta, 1, ttl, area);
  return load<u8>(area) == 0 ? load<i64>(area, 8) : -1;
}

export function log(level: Level, message: string, name: string, value: string): void {
  const text = new Text(message);
  new Text(name).store(area);
  new Text(value).store(area + 8);
  log_write(level, text.pointer, text.length, area, 1);
}

export class Session {
  constructor(private handle: i32) {}
  /** `info().client.ip`. */
  clientAddress(): string {
    session_info(this.handle, area);
    return load_text(area + 24);
  }
  drop(): void { drop_session(this.handle); }
}

export class Transaction {
  constructor(private handle: i32) {}
  addTag(tag: string): void {
    const text = new Text(tag);
    add_tag(this.handle, text.pointer, text.length, area);
    assert(load<u8>(area) == 0, "the tag was refused");
  }
  drop(): void { drop_transaction(this.handle); }
}

export class Content {
  constructor(private handle: i32) {}
  prependHeader(name: string, value: string): void {
    const left = new Text(name);
    const right = new Text(value);
    prepend_header(this.handle, left.pointer, left.length, right.pointer, right.length, area);
    assert(load<u8>(area) == 0, "the field was refused");
  }
  drop(): void { drop_content(this.handle); }
}
