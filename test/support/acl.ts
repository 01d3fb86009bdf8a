// POSIX ACLs and file capabilities as they are stored in attributes.

export const Tag = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 16, OTHER: 32 } as const;

/** Version 2, then tag, permissions and id of each entry. */
export function acl(
  ...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]
): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, 2, true);
  for (const [i, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
    view.setUint16(4 + i * 8, tag, true);
    view.setUint16(6 + i * 8, permissions, true);
    view.setUint32(8 + i * 8, id, true);
  }
  return new Uint8Array(view.buffer);
}

/** cap_net_raw, permitted and effective; of revision 3 with `root`, else of revision 2. */
export function capability(root?: number): Uint8Array {
  const words = [0, 1 << 13, 0, 0, 0];
  words[0] = (root === undefined ? 0x0200_0000 : 0x0300_0000) | 1;
  return new Uint8Array(Uint32Array.from(root === undefined ? words : [...words, root]).buffer);
}
