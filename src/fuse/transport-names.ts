// The ways in which a mount can be served, by the names that users give. A file of its own, so that
// the command line knows the names without loading any of them.

/**
 * `auto`: io_uring where the kernel offers it, else the device. `device`: the kernel's protocol, spoken
 * by this project itself over /dev/fuse. `io_uring`: the same over rings, Linux 6.14. `fuse-native`: the
 * npm package of that name, over libfuse 2.
 */
export const TRANSPORTS = ['auto', 'device', 'io_uring', 'fuse-native'] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** Those for which this project speaks the protocol itself. */
export type OwnTransportName = Exclude<TransportName, 'fuse-native'>;
