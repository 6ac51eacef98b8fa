/**
 * Attach: programs on the two sides of an interface, by the classifiers of a clsact queueing discipline. Attaching where one of ours is
 * replaces it at once. What is attached stays when the process ends. Source: linux net/sched/cls_api.c, cls_bpf.c, pkt_sched.h.
 */
import type { Sys } from "../../host/sys.ts";
import { EEXIST, EINVAL, ENODEV, ENOENT, KernelError } from "../errno.ts";
import type { Message } from "../netlink/reader.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, type Writer } from "../netlink/writer.ts";

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;
/** struct tcmsg: family u8, padding, index i32, handle u32, parent u32, info u32. */
const TCMSG = 20;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
const TCA_BPF_FLAG_ACT_DIRECT = 1;
const TC_H_CLSACT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const ETH_P_ALL = 0x0300; // network order

/** As seen from the node: `ingress` is what the interface receives. */
export type Side = "ingress" | "egress";
const SIDES: readonly Side[] = ["ingress", "egress"];
const PARENT: { readonly [S in Side]: number } = { ingress: 0xfffffff2, egress: 0xfffffff3 };

export interface Attached {
  readonly index: number;
  readonly side: Side;
  readonly name: string;
  readonly programId: number;
}

/** Where our classifier is among others of the interface. */
export interface Place {
  readonly priority: number;
  readonly handle: number;
}

export class Attachments {
  readonly #socket: NetlinkSocket;
  readonly #place: Place;

  /** In the thread's network namespace. */
  constructor(sys: Sys, place: Place) {
    this.#socket = new NetlinkSocket(sys, NETLINK_ROUTE);
    this.#place = place;
  }

  close(): void {
    this.#socket.close();
  }

  get writes(): number {
    return this.#socket.writes;
  }

  /** Of the socket that changes; undefined before its first answer. */
  get portId(): number | undefined {
    return this.#socket.portId;
  }

  attach(index: number, side: Side, program: number, name: string): void {
    this.#ensureClsact(index);
    this.#socket.change(`attach ${name} to`, `interface ${index}`, RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE, (w) => {
      this.#header(w, index, side);
      w.text(TCA_KIND, "bpf");
      const options = w.open(TCA_OPTIONS);
      w.u32(TCA_BPF_FD, program);
      w.text(TCA_BPF_NAME, name);
      w.u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
      w.close(options);
    });
  }

  /** Succeeds when there is none. */
  detach(index: number, side: Side): void {
    this.#unlessGone(() =>
      this.#socket.change("detach from", `interface ${index}`, RTM_DELTFILTER, NLM_F_ACK, (w) => {
        this.#header(w, index, side);
        w.text(TCA_KIND, "bpf");
      }),
    );
  }

  /** Takes the queueing discipline out, with all classifiers of anyone. Succeeds when there is none. */
  removeClsact(index: number): void {
    this.#unlessGone(() =>
      this.#socket.change("remove clsact of", `interface ${index}`, RTM_DELQDISC, NLM_F_ACK, (w) => clsact(w, index)),
    );
  }

  /** Ours at the interface; none when the interface is not there. */
  attached(index: number): Attached[] {
    return SIDES.flatMap((side) => this.#dump(index, side, (message) => this.#decode(message, side)));
  }

  /** Whether somebody else's classifier is on that side. */
  hasOthers(index: number, side: Side): boolean {
    const found = this.#dump(index, side, ({ body }) => {
      const [handle, info] = [body.u32(8), body.u32(16)];
      // What stands for the preference itself has no handle.
      if (handle === undefined || handle === 0 || info === undefined) return undefined;
      return info >>> 16 === this.#place.priority && handle === this.#place.handle ? undefined : true;
    });
    return found.length > 0;
  }

  /** Takes out whoever's classifiers that run a program of such a name. */
  detachNamed(index: number, isSo: (name: string) => boolean): void {
    for (const side of SIDES) {
      const found = this.#dump(index, side, ({ body }) => {
        const [handle, info] = [body.u32(8), body.u32(16)];
        const name = body.after(TCMSG)?.attributes()?.get(TCA_OPTIONS)?.attributes()?.get(TCA_BPF_NAME)?.text() ?? "";
        return handle === undefined || info === undefined || !isSo(name) ? undefined : { handle, info };
      });
      for (const { handle, info } of found)
        this.#unlessGone(() =>
          this.#socket.change("detach from", `interface ${index}`, RTM_DELTFILTER, NLM_F_ACK, (w) => {
            tcmsg(w, index, handle, PARENT[side], info);
            w.text(TCA_KIND, "bpf");
          }),
        );
    }
  }

  #dump<T>(index: number, side: Side, decode: (message: Message) => T | undefined): T[] {
    try {
      return this.#socket.dump(
        "list programs of",
        `interface ${index}`,
        RTM_GETTFILTER,
        (w) => tcmsg(w, index, 0, PARENT[side], 0),
        decode,
      );
    } catch (error) {
      if (error instanceof KernelError && MISSING.has(error.errno)) return [];
      throw error;
    }
  }

  #decode({ body }: Message, side: Side): Attached | undefined {
    const [index, handle, info] = [body.i32(4), body.u32(8), body.u32(16)];
    const attributes = body.after(TCMSG)?.attributes();
    const options = attributes?.get(TCA_OPTIONS)?.attributes();
    const programId = options?.get(TCA_BPF_ID)?.u32();
    if (index === undefined || info === undefined || programId === undefined) return undefined;
    if (info >>> 16 !== this.#place.priority || handle !== this.#place.handle) return undefined;
    return { index, side, name: options?.get(TCA_BPF_NAME)?.text() ?? "", programId };
  }

  #header(w: Writer, index: number, side: Side): void {
    const { priority, handle } = this.#place;
    tcmsg(w, index, handle, PARENT[side], priority * 0x10000 + ETH_P_ALL);
  }

  #ensureClsact(index: number): void {
    try {
      const flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
      this.#socket.change("add clsact to", `interface ${index}`, RTM_NEWQDISC, flags, (w) => clsact(w, index));
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== EEXIST) throw error;
    }
  }

  #unlessGone(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof KernelError) || !MISSING.has(error.errno)) throw error;
    }
  }
}

/** The interface, its clsact or the classifier is not there. */
const MISSING: ReadonlySet<number> = new Set([ENODEV, ENOENT, EINVAL]);

function tcmsg(w: Writer, index: number, handle: number, parent: number, info: number): void {
  const at = w.header(TCMSG);
  w.putU32(at + 4, index);
  w.putU32(at + 8, handle);
  w.putU32(at + 12, parent);
  w.putU32(at + 16, info);
}

function clsact(w: Writer, index: number): void {
  tcmsg(w, index, CLSACT_HANDLE, TC_H_CLSACT, 0);
  w.text(TCA_KIND, "clsact");
}
