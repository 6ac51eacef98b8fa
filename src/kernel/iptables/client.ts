/**
 * IptablesClient: one family of iptables, by the programs of one variant: `iptables-legacy-save`, `ip6tables-nft-restore` and so on. They work
 * in the network namespace of the thread that starts them.
 */
import type { Clock } from "../../host/clock.ts";
import type { Finished, Processes } from "../../host/processes.ts";
import type { Family } from "../../net/addr.ts";
import { EAGAIN, EINVAL, ENOENT, EPERM, KernelError } from "../errno.ts";
import type { RestoreInput } from "./restore.ts";
import type { TableName } from "./rule.ts";

/** `legacy` has the kernel's x_tables, `nft` its nf_tables; rules of both may exist beside each other. */
export type Variant = "legacy" | "nft";

export interface RestoreRefusal {
  readonly error: KernelError;
  /** The chain that the program names; undefined: it names none, and what is to blame must be found out. */
  readonly culprit: { readonly table: TableName; readonly chain: string } | undefined;
}

/** Another program may hold the lock of xtables for so long. */
const LOCK_SECONDS = 5;
/** One that has not ended by then is ended: nothing else of the dataplane goes on while it runs. */
const MOST_MS = 60_000;
/** Exit code of one that could not have the lock, or memory. Source: xtables.h, RESOURCE_PROBLEM. */
const RESOURCE_PROBLEM = 4;
/** Of what a program prints as its error. */
const MOST_WORDS = 300;

export class IptablesClient {
  readonly #processes: Processes;
  readonly #clock: Pick<Clock, "sleep">;
  readonly #program: string;
  #writes = 0;

  constructor(processes: Processes, clock: Pick<Clock, "sleep">, variant: Variant, family: Family) {
    this.#processes = processes;
    this.#clock = clock;
    this.#program = `${family === 4 ? "iptables" : "ip6tables"}-${variant}`;
  }

  /** Changes made. */
  get writes(): number {
    return this.#writes;
  }

  /** Why its programs cannot run here, in words; undefined: they can. Changes nothing. */
  async probe(): Promise<string | undefined> {
    try {
      await this.save(false);
      const { exitCode, stderr } = await this.#run([`${this.#program}-restore`, "--noflush"], "*filter\nCOMMIT\n");
      return exitCode === 0 ? undefined : `${this.#program}-restore: ${words(stderr)}`;
    } catch (error) {
      if (error instanceof KernelError) return error.message;
      throw error;
    }
  }

  /** What `iptables-save` prints of all tables. Rejects with KernelError. */
  async save(counters: boolean): Promise<string> {
    const { exitCode, stdout, stderr } = await this.#run([`${this.#program}-save`, ...(counters ? ["-c"] : [])]);
    if (exitCode !== 0) throw new KernelError("read rules by", `${this.#program}-save`, errnoOf(stderr), words(stderr));
    return stdout;
  }

  /** Makes the changes of each table all or nothing, one table after the other. Rejects with KernelError when it cannot be tried. */
  async restore({ text, about }: RestoreInput): Promise<RestoreRefusal | undefined> {
    this.#writes++;
    const command = [`${this.#program}-restore`, "--noflush", "--wait", String(LOCK_SECONDS)];
    const { exitCode, stderr } = await this.#run(command, text);
    if (exitCode === 0) return undefined;
    const error = new KernelError("change rules by", `${this.#program}-restore`, errnoOf(stderr), words(stderr));
    if (exitCode === RESOURCE_PROBLEM || error.errno === EPERM) throw error;
    // A program that ends by COMMIT's line does not know which line before it the kernel refused.
    const line = Number(/line:? (\d+)/.exec(stderr)?.[1] ?? 0);
    return { error, culprit: about.get(line) };
  }

  async #run(command: readonly string[], input?: string): Promise<Finished> {
    const late = new AbortController();
    const done = new AbortController();
    void this.#clock.sleep(MOST_MS, done.signal).then(() => late.abort());
    try {
      return await this.#processes.run(command, { signal: late.signal, ...(input === undefined ? {} : { input }) });
    } catch (error) {
      const isLate = late.signal.aborted;
      const why = isLate ? `it has not ended within ${MOST_MS / 1000} s` : messageOf(error);
      throw new KernelError("run", command[0] ?? "", isLate ? EAGAIN : ENOENT, why);
    } finally {
      done.abort();
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function words(stderr: string): string {
  return stderr.trim().replace(/\s+/g, " ").slice(0, MOST_WORDS);
}

/** The programs print the C library's words. */
const ERRNOS: readonly (readonly [RegExp, number])[] = [
  [/not permitted|Permission denied|must be root/, EPERM],
  [/No such file|does not exist|No chain/, ENOENT],
  [/temporarily unavailable|xtables lock/, EAGAIN],
];

function errnoOf(stderr: string): number {
  return ERRNOS.find(([pattern]) => pattern.test(stderr))?.[1] ?? EINVAL;
}
