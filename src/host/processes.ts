/** Processes: runs another program to its end. Arguments are a list; no shell is involved. */
export interface Processes {
  /** Rejects only when the program cannot be started (the message names it) or the signal aborts. */
  run(
    command: readonly string[],
    options?: {
      readonly input?: string;
      readonly signal?: AbortSignal;
      readonly environment?: Readonly<Record<string, string>>;
    },
  ): Promise<Finished>;
}

export interface Finished {
  /** 128 + signal number when a signal ended it. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}
