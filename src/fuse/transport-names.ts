// The ways in which a mount can be served, by the names that users give. A file of its own, so that
// the command line knows the names without loading any of them.

/**
 * `auto`: what serves best here, which is `device`. `device`: the kernel's protocol, spoken by this
 * project itself over /dev/fuse. `fuse-native`: the npm package of that name, over libfuse 2.
 */
export const TRANSPORTS = ['auto', 'device', 'fuse-native'] as const;
export type TransportName = (typeof TRANSPORTS)[number];
