// The vectors of the specification (checked there with fsverity-utils and a second implementation),
// through every way to compute a digest.

import { describe, expect, it } from 'vitest';
import { measureBytes, measureFile, measureStream } from '../../../src/verify/measure.ts';
import { measureFiles } from '../../../src/verify/measure-files.ts';
import { DESCRIPTOR, encodeDescriptor } from '../../../src/verify/descriptor.ts';
import { nobleEngine } from '../../../src/verify/engine-noble.ts';
import { MerkleBuilder } from '../../../src/verify/merkle.ts';
import { resolveParameters, toHex } from '../../../src/verify/parameters.ts';
import { algorithms, enginesOf, patterned, temporaryFolder, writeTo } from './content.ts';

/** Size of the content, SHA-256 digest, SHA-512 digest. */
const vectors: [number, string, string][] = [
  [
    0,
    '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95',
    'ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d1' +
      '0adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf',
  ],
  [
    1,
    '83334d2a5a79c35ecec7b206551570ffb7c723db2fb0ea790e9f63bfb4992858',
    'eb63945e2b295e8579f935e47ca18df5b3751e3e1b90b944f00ac1208dca2ffc' +
      '128603a2481227b9fa472663740df1843de4c21f961a20ceb335e8b5e2a42c4d',
  ],
  [
    64,
    'fb3062f62eef49e18ef8e4504d041e3e17600c8d8285d5484047ba2d93799ac7',
    '4a28354f19d99740196716218638c80984f7ec19d59b0bf1412a7f29c855dfd7' +
      '354da9eae0e4647beabe6b13ba24fc56eb93c4f899fe3a89feafcea20b3f7c0a',
  ],
  [
    4095,
    '3024e8d6d266bf93ab1be9288b9b37fd1d2804081967c6066cc79986d7dd89e2',
    '5f16c8daaa1cfd0ac7f917bc5038d35ef6f5b278918dca6db793bb5c13ac9f5e' +
      '02d0f474e44631bf7abfe670cbff9b183842f882a7d44b0ffcadaa9ec07afdb1',
  ],
  [
    4096,
    '1c628b821895d32da6e3899489770f6608770849d3e6d90ebd9869e5d65e2546',
    'ecb638e9b4209bdeb190fcf6e4aa95cbd4375362b79a285735d766231ef5bb3c' +
      'e3a3774c66962f3c162b49086290b02ec6cde92eae2977bbd9da59633e7c22a8',
  ],
  [
    4097,
    '1881b167d9647d6bef2fef2ff235b6d81cbc5b2202fea369a2f4f4a957263fc2',
    'af927db14784df4ed6032eb4da2c9beb0e73fc33414ae6f43a1f9c1ded9bc1ef' +
      '17a6a4f5780ca48886f0d6bac6f958af699905e6794abc26b1ece89668f8838d',
  ],
  [
    8192,
    'c4ef32c94fdc9e63fbdbff2b99724df532495c2c5e8d5b8218a2d82d8c937152',
    'bf1783703f3b7e60edcea62e910a850c03c222424f43aa49dbbc8ca553f55d84' +
      '0bf905a6147910822ba951e991927f40d52785a8f1eff0dcf74440774548e449',
  ],
  [
    524288,
    '44b3928833992f50109130b8c413caedc29b66e03dd565d85e992cc349d02545',
    'f19775aef96086e38ddee5436fdd6f70212b379654bbbd3a8632fe62b0848d1f' +
      '952c7a70024c5248ba402edf4acce03035f25d90f8ce725168f967c9df587d81',
  ],
  [
    524289,
    'a16badc6577bcf7f8358d0fa8c17a5334aad2a7d367c6f5d4bc877dca54d0932',
    '2c6c2cd898b18cd6aa95bffeba6bd7bb4b0fb4ab93d7688cdfa706e50da11acc' +
      '25d8364df9590a49fe0489be182b379218b01e4ca62c1932684dd859c48361ad',
  ],
  [
    1048583,
    '8d80c397d4c9975d5a983c7b4056e6107bb751b175c3fd544fe4a04235bc7529',
    '3b1fbeb005318fee8764f2cf107207f2c3a26aec2207a7fa33e008f16943c529' +
      '0e493ab80b7e0955d702ff8c4bf3fb0d23accdd258e678340c877139d1537143',
  ],
];

const helloWorld = {
  sha256: '1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64',
  sha512:
    '18430270729d162d4e469daca123ae61893db4b0583d8f7081e3bf4f92b88ba5' +
    '14e7982f10733fb6aa895195c5ae8fd2eb2c47a8be05513ce5a0c51a6f570409',
};

const folder = temporaryFolder();
const paths = vectors.map(([size]) => writeTo(folder, `${size}`, patterned(size)));

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  yield new Uint8Array(0);
}

describe.each(algorithms)('%s', (algorithm) => {
  const expected = vectors.map((row) => (algorithm === 'sha256' ? row[1] : row[2]));

  describe.each(enginesOf(algorithm).map((engine) => [engine.name, engine] as const))(
    'by %s',
    (_name, engine) => {
      it('gives the digests of the specification for bytes', () => {
        const digests = vectors.map(([size]) =>
          measureBytes(patterned(size), { algorithm, engine }),
        );
        expect(digests.map((digest) => digest.hex)).toEqual(expected);
        expect(digests.map((digest) => digest.sizeBytes)).toEqual(vectors.map(([size]) => size));
      });

      it('gives them for files, one by one', async () => {
        const digests = [];
        for (const path of paths)
          digests.push((await measureFile(path, { algorithm, engine })).hex);
        expect(digests).toEqual(expected);
      });

      it('gives them for many files at once, in order', async () => {
        const digests = [];
        for await (const { path, hex } of measureFiles(paths, { algorithm, engine })) {
          digests.push([path, hex]);
        }
        expect(digests).toEqual(paths.map((path, i) => [path, expected[i]]));
      });

      it.each([1000, 4096, 100_000])(
        'gives them for streams in pieces of %i bytes',
        async (step) => {
          const digests = [];
          for (const [size] of vectors) {
            const stream = inChunks(patterned(size), step);
            digests.push((await measureStream(stream, { algorithm, engine })).hex);
          }
          expect(digests).toEqual(expected);
        },
      );

      it('gives the digest of a text', () => {
        const bytes = new TextEncoder().encode('hello world');
        expect(measureBytes(bytes, { algorithm, engine }).hex).toBe(helloWorld[algorithm]);
      });
    },
  );
});

describe('the worked example of 4097 bytes', () => {
  const parameters = resolveParameters();
  const builder = new MerkleBuilder(parameters, nobleEngine.createHasher(parameters));
  builder.update(patterned(4097));
  const { rootHash, digest, sizeBytes } = builder.finish();

  it('has its root hash and digest', () => {
    expect(toHex(rootHash)).toBe(
      '1df13fa9d3d305ec16f0a75d992850494903f7e8750891752231baa78008fd6e',
    );
    expect(toHex(digest)).toBe(vectors[5]![1]);
  });

  it('has its descriptor', () => {
    const rows = [
      '01010c00000000000110000000000000',
      '1df13fa9d3d305ec16f0a75d99285049',
      '4903f7e8750891752231baa78008fd6e',
    ];
    const descriptor = encodeDescriptor(parameters, sizeBytes, rootHash);
    expect(toHex(descriptor)).toBe(rows.join('').padEnd(2 * DESCRIPTOR.SIZE, '0'));
  });
});
