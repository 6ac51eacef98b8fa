/**
 * Devices: which interfaces are in the flowtable, apart from the rows of the table: a device that the kernel does not take stands in nobody's way,
 * its flows merely are not offloaded. The kernel takes one out by itself when the interface goes.
 *
 * Source: linux net/netfilter/nf_tables_api.c, nf_tables_newflowtable, nft_delflowtable_hook.
 */
import type { Clock } from "../../host/clock.ts";
import { ENOENT, KernelError } from "../../kernel/errno.ts";
import type { NftablesClient } from "../../kernel/nftables/client.ts";
import type { NftCommand, NftRule } from "../../kernel/nftables/objects.ts";
import { formatTimestamp } from "../../lib/timestamp.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../program/program.ts";
import type { PlannedChange, RowStatus, Steps } from "../driver.ts";
import { Failures } from "../failures.ts";
import { FLOWTABLE_PRIORITY } from "./base.ts";
import { FLOWTABLE, OFFLOAD_CHAIN } from "./names.ts";
import { isOfTheWhole } from "./send.ts";

/** Of one transaction. */
const MOST_DEVICES = 64;

export class Devices {
  readonly #failures: Failures;
  /** With the addresses that each may send from. */
  readonly #wanted = new Map<string, Endpoint["addresses"]>();
  #have: ReadonlySet<string> = new Set();
  #isOn = false;
  /** Flows that nobody may send any more may be in the flowtable: it is made anew. */
  #isStale = false;
  /** Nothing is offloaded, for flows to be cut that the kernel keeps otherwise. */
  #isSuspended = false;

  constructor(clock: Pick<Clock, "monotonicMs" | "wallMs">) {
    this.#failures = new Failures(clock);
  }

  /** `program` is the state after `delta`. A workload without an address has no interface yet, or loses it. */
  lower(program: Program, delta: ProgramDelta): void {
    const { offloadsFlows } = program.settings;
    if (!offloadsFlows) {
      this.#wanted.clear();
      this.#isStale = false;
    } else if (!this.#isOn) for (const [id, endpoint] of program.endpoints) this.#want(id, endpoint);
    else for (const [id, endpoint] of delta.endpoints) this.#want(id, endpoint);
    this.#isOn = offloadsFlows;
  }

  #want(id: EndpointId, endpoint: Endpoint | undefined): void {
    const before = this.#wanted.get(id);
    const addresses = endpoint?.kind === "workload" ? endpoint.addresses : [];
    // One that loses all leaves the flowtable, and what it sends is judged in the chains again.
    if (addresses.length === 0) {
      this.#wanted.delete(id);
      this.#failures.forget(id);
      return;
    }
    if (before?.some((address) => !addresses.includes(address)) === true) this.#isStale = true;
    this.#wanted.set(id, addresses);
    if (before === undefined) this.#failures.hasten(id);
  }

  /** The devices that the kernel has; a flowtable that has just been made has no flows either. */
  found(devices: readonly string[], isNew = false): void {
    this.#have = new Set(devices);
    if (isNew) this.#isStale = false;
  }

  get dueMs(): number | undefined {
    return this.#failures.nextMs;
  }

  /** Those to be added or taken out; what the kernel refuses is not counted. */
  get pending(): number {
    return this.#missing().filter((device) => this.#failures.get(device) === undefined).length + this.#surplus().length;
  }

  /** An interface that does not exist is no failure: it is yet to come, or has just gone. */
  get status(): readonly RowStatus[] {
    return [...this.#failures.all].flatMap(([device, { error, sinceMs, attempts }]) =>
      error.errno === ENOENT
        ? []
        : [
            {
              row: `device ${device} of flowtable ${FLOWTABLE}`,
              object: undefined,
              state: "failed",
              error: error.message,
              errno: error.errno,
              since: formatTimestamp(sinceMs),
              attempts,
            },
          ],
    );
  }

  plan(): readonly PlannedChange[] {
    const line = (sign: "+" | "-", device: string): PlannedChange => ({
      sign,
      what: `device ${device} of flowtable ${FLOWTABLE}`,
      lines: [],
    });
    return [
      ...this.#surplus().map((device) => line("-", device)),
      ...this.#missing().map((device) => line("+", device)),
    ];
  }

  #missing(): string[] {
    return this.#isSuspended ? [] : [...this.#wanted.keys()].filter((device) => !this.#have.has(device));
  }

  #surplus(): string[] {
    return [...this.#have].filter((device) => !this.#wanted.has(device));
  }

  /** `rules` are those of the chain that offloads. Throws KernelError for what concerns no single device. */
  *committing(client: NftablesClient, rules: readonly NftRule[]): Steps {
    const surplus = this.#surplus();
    if (surplus.length > 0 && !this.#tryRemove(client, surplus)) {
      // The kernel has taken some of them out itself.
      this.found(client.steps.flowtables().get(FLOWTABLE)?.devices ?? []);
      const left = this.#surplus();
      if (left.length > 0) this.#tryRemove(client, left);
    }
    if (this.#isStale) this.#renew(client, this.#isSuspended ? [] : rules);
    const due = new Set(this.#failures.due());
    const missing = this.#missing().filter((device) => this.#failures.get(device) === undefined || due.has(device));
    for (let i = 0; i < missing.length; i += MOST_DEVICES) {
      yield;
      const part = missing.slice(i, i + MOST_DEVICES);
      if (part.length > 1 && this.#tryAdd(client, part) === undefined) continue;
      for (const device of part) {
        const error = this.#tryAdd(client, [device]);
        if (error !== undefined) this.#failures.add(device, error);
      }
    }
  }

  /** In one transaction: all flows leave it, and those that are accepted return with their next packet. */
  #renew(client: NftablesClient, rules: readonly NftRule[]): void {
    const commands: NftCommand[] = [
      { do: "flush-chain", chain: OFFLOAD_CHAIN },
      { do: "delete-flowtable", flowtable: FLOWTABLE },
      { do: "add-flowtable", flowtable: FLOWTABLE, priority: FLOWTABLE_PRIORITY, devices: [] },
      ...rules.map((rule) => ({ do: "add-rule", chain: OFFLOAD_CHAIN, rule }) as const),
    ];
    client.commit(commands);
    this.found([], true);
  }

  /** All flows leave it, and none enters it. Throws KernelError. */
  suspend(client: NftablesClient): void {
    this.#isSuspended = true;
    this.#renew(client, []);
  }

  /** Devices come back with the next commit. Throws KernelError. */
  resume(client: NftablesClient, rules: readonly NftRule[]): void {
    this.#isSuspended = false;
    this.#renew(client, rules);
  }

  #tryAdd(client: NftablesClient, devices: readonly string[]): KernelError | undefined {
    const error = attempt(client, { do: "add-flowtable", flowtable: FLOWTABLE, priority: FLOWTABLE_PRIORITY, devices });
    if (error !== undefined) return error;
    this.#have = new Set([...this.#have, ...devices]);
    for (const device of devices) this.#failures.forget(device);
    return undefined;
  }

  #tryRemove(client: NftablesClient, devices: readonly string[]): boolean {
    const command = { do: "delete-devices", flowtable: FLOWTABLE, priority: FLOWTABLE_PRIORITY, devices } as const;
    if (attempt(client, command) !== undefined) return false;
    this.#have = new Set([...this.#have].filter((device) => !devices.includes(device)));
    return true;
  }
}

/** Why the kernel refuses it; undefined: it is done. Throws KernelError for what says nothing of the command. */
function attempt(client: NftablesClient, command: NftCommand): KernelError | undefined {
  try {
    client.commit([command]);
    return undefined;
  } catch (error) {
    if (error instanceof KernelError && !isOfTheWhole(error)) return error;
    throw error;
  }
}
