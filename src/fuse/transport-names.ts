// The ways by which requests reach the daemon, as the command line names them.

/** `auto` is io_uring where the kernel offers it, else the device. */
export const TRANSPORTS = ['auto', 'device', 'io_uring'] as const;
export type TransportName = (typeof TRANSPORTS)[number];
