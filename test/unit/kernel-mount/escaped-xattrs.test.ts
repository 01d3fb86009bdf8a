// Which images need an overlayfs that knows escaped attributes.

import { describe, expect, it } from 'vitest';
import { Image } from '../../../src/image-reader/index.ts';
import { hasEscapedXattrs } from '../../../src/kernel-mount/escaped-xattrs.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, file, type TestDirectory, type TestXattr } from '../../support/image-nodes.ts';

const look = (root: TestDirectory): boolean => hasEscapedXattrs(Image.open(buildImage(root)));
const withXattr = (name: string): { xattrs: TestXattr[] } => ({ xattrs: [[name, 'x']] });

describe('escaped overlay attributes', () => {
  it('are found on the root, on directories and on files', () => {
    const escaped = withXattr('trusted.overlay.overlay.opaque');
    expect(look(directory({}, escaped))).toBe(true);
    expect(look(directory({ a: directory({ b: directory({}, escaped) }) }))).toBe(true);
    expect(look(directory({ a: directory({ b: file('x', escaped) }) }))).toBe(true);
  });

  it('are no others that look like them', () => {
    for (const name of [
      'trusted.overlay.opaque',
      'trusted.overlay.overlays',
      'user.overlay.overlay.opaque',
      'user.x',
    ]) {
      expect(look(directory({ a: file('x', withXattr(name)) }))).toBe(false);
    }
    expect(look(directory({ a: file('x') }))).toBe(false);
  });
});
