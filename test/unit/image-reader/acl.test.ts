import { describe, expect, it } from 'vitest';
import { hasAcl } from '../../../src/image-reader/index.ts';
import { ACL_VALUE, builderZoo } from '../../support/builder-zoo.ts';
import { directory, file, type TestChild, type TestDirectory } from '../../support/image-nodes.ts';
import { open, type OpenedImage } from './helpers.ts';

const withAcl = file('', { xattrs: [['system.posix_acl_access', ACL_VALUE]] });

describe('hasAcl', () => {
  it.each<[string, boolean, TestDirectory]>([
    ['nothing', false, directory()],
    ['other attributes', false, directory({ a: file('', { xattrs: [['user.x', 'y']] }) })],
    [
      'the name stored whole',
      false,
      directory({
        a: file('', { xattrs: [{ index: 0, name: 'system.posix_acl_access', value: '' }] }),
      }),
    ],
    ['an access ACL on a file', true, directory({ a: directory({ b: directory({ withAcl }) }) })],
    ['a shared one', true, directory({ withAcl, b: file('', { xattrs: withAcl.xattrs ?? [] }) })],
    [
      'a default ACL on the root',
      true,
      directory({}, { xattrs: [['system.posix_acl_default', ACL_VALUE]] }),
    ],
    ['everything', true, builderZoo()],
  ])('%s: %s', (_, expected, tree) => {
    const { image } = open(tree, { composefsVersion: 2 });
    expect(image.hasAclFlag).toBe(false);
    expect(hasAcl(image)).toBe(expected);
  });

  it('skips damage and finds what lies beside it', () => {
    const bad = directory({ x: file('x') });
    const tree = directory({ bad, worse: file('', { override: { mode: 0 } }), z: withAcl });
    const { image } = open(tree, {}, ({ view, locate }) => {
      view.setUint16(locate(bad).body + 8, 0, true);
    });
    expect(hasAcl(image)).toBe(true);
  });

  it('ends on cycles, hazard 19', () => {
    const loop = directory();
    loop.children.push(['again', loop]);
    const { image } = open(directory({ loop }));
    expect(hasAcl(image)).toBe(false);
  });

  it('gives up, on the safe side, when directories share their bytes, hazard 20', () => {
    // 2,000 directories that all claim the blocks of one with 3,000 entries.
    const leaf = file('');
    const big = directory(
      Array.from({ length: 3000 }, (_, i) => [`e${i}`, leaf]),
      { tail: 'block' },
    );
    const aliases = Array.from({ length: 2000 }, () => directory({}, { tail: 'block' }));
    const tree = directory([['big', big], ...aliases.map((node, i) => [`d${i}`, node] as const)]);
    const { image } = open(tree, {}, ({ view, locate }) => {
      for (const alias of aliases) {
        view.setUint32(locate(alias).offset + 16, locate(big).blocks / 4096, true);
        view.setUint32(locate(alias).offset + 8, locate(big).pieces.length * 4096, true);
      }
    });
    const begin = performance.now();
    expect(hasAcl(image)).toBe(true);
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  it('gives up when inodes share their attributes, hazard 29', () => {
    // 100 inodes in the content of a file. Each has one attribute whose value reaches to a region of
    // zeros, in which every 4 bytes are an attribute without name and value.
    const inodes = 100;
    const zeros = 32_768 * 4;
    const content = new Uint8Array(inodes * 64 + zeros);
    const fields = new DataView(content.buffer);
    for (let i = 0; i < inodes; i++) {
      const at = i * 64;
      const entryAt = at + 32 + 12;
      fields.setUint16(at + 2, (content.length - entryAt) / 4 + 1, true);
      fields.setUint16(at + 4, 0o100644, true);
      fields.setUint16(entryAt + 2, inodes * 64 - entryAt - 4, true);
    }
    const host = file(content, { tail: 'block' });
    const build = (start: number): OpenedImage => {
      const aliases = Array.from({ length: inodes }, (_, i): TestChild => {
        return [`alias${i}`, host, { nid: BigInt(start / 32 + i * 2) }];
      });
      return open(directory([['host', host], ...aliases]));
    };
    const { image } = build(build(0).locate(host).blocks);
    expect(hasAcl(image)).toBe(true);
  });
});
