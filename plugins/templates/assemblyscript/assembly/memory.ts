// Text and memory at the border: the canonical ABI of the component model, by hand. Nothing is ever freed: an instance
// lives as long as one session.

/** UTF-8, as the host wants it. */
export class Text {
  pointer: usize;
  length: u32;

  constructor(text: string) {
    const octets = String.UTF8.encode(text);
    this.pointer = changetype<usize>(octets);
    this.length = octets.byteLength;
  }

  /** Writes pointer and length. */
  store(at: usize): void {
    store<u32>(at, <u32>this.pointer);
    store<u32>(at, this.length, 4);
  }
}

/** The text whose pointer and length stand there. */
export function load_text(at: usize): string {
  return String.UTF8.decodeUnsafe(load<u32>(at), load<u32>(at, 4));
}

/** Room that is zero. */
export function room(octets: usize): usize {
  const at = heap.alloc(octets);
  memory.fill(at, 0, octets);
  return at;
}

/** Where the host puts what it returns. */
export const area: usize = room(128);

/** Called by the host before it hands over text or a list. */
export function cabi_realloc(old: usize, old_size: usize, align: usize, new_size: usize): usize {
  const at = heap.alloc(new_size); // of heap.alloc everything is aligned to 16
  if (old_size > 0) memory.copy(at, old, old_size);
  return at;
}
