// The shape of a result: what `--json` writes and `--report` reads.

/** One mount's part of a measurement: samples with their summary, or the reason for none. */
export interface Cell {
  mount: string;
  samples?: number[];
  median?: number;
  min?: number;
  max?: number;
  /** How many times the kernel's; above 1 is worse, also for rates. */
  ratio?: number;
  /** What each run did, the same on every mount. */
  work?: string;
  reason?: string;
  /** The reason is a failure, and not something that this machine or mount does not have. */
  failed?: boolean;
}

export interface Measurement {
  section: string;
  name: string;
  /** s, ms, MB or entries/s. */
  unit: string;
  cells: Cell[];
}

export interface MountFacts {
  name: string;
  /** The command line, or what it is. */
  is: string;
  /** Why it was left out. */
  reason?: string;
}

export interface Result {
  format: string;
  machine: {
    cpu: string;
    kernel: string;
    node: string;
    commit: string;
    date: string;
    command: string;
  };
  loadBefore: number[];
  loadAfter: number[];
  /** The whole run. */
  seconds: number;
  rounds: number;
  quick: boolean;
  image: { source: string; bytes: number; entries: number };
  mounts: MountFacts[];
  measurements: Measurement[];
  /** What went wrong besides failed cells. */
  problems: string[];
}
