/**
 * Generations: which changes of nf_tables another program made for us. It runs while we wait for it, so what came
 * meanwhile is ours, unless more came than it can have made.
 */
import type { Sys } from "../../host/sys.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { readGeneration } from "./step-reader.ts";

export class Generations {
  readonly #socket: NetlinkSocket;
  /** Before the program that runs now. */
  #before: number | undefined;
  /** After the last that ran. */
  #after: number | undefined;

  /** Opens in the thread's network namespace. Throws KernelError. */
  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  }

  /** The program is about to start. Throws KernelError. */
  begin(): void {
    this.#before = readGeneration(this.#socket);
  }

  /** It has ended, and has made so many transactions at most. False when others have made some too. Throws KernelError. */
  end(transactions: number): boolean {
    const before = this.#before ?? 0;
    this.#before = undefined;
    this.#after = readGeneration(this.#socket);
    return ((this.#after - before) | 0) <= transactions;
  }

  /** Generations are 32 bits that wrap around. */
  isOwn(generation: number): boolean {
    if (this.#before !== undefined) return true;
    return this.#after !== undefined && ((generation - this.#after) | 0) <= 0;
  }

  close(): void {
    this.#socket.close();
  }
}
