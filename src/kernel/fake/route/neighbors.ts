/** FakeNeighbors: the neighbours of one namespace, which are there from when they are added until they or their link go. Source: linux net/core/neighbour.c. */
import { type Addr, addrBytes, familyOf } from "../../../net/addr.ts";
import { EEXIST, ENODEV, ENOENT } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import { NLM_F_CREATE, NLM_F_EXCL, type Writer } from "../../netlink/writer.ts";
import * as wire from "../../route/wire.ts";
import type { Answer } from "../messages.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { addrAt, familyAt } from "./codec.ts";

interface FakeNeighbor {
  readonly index: number;
  readonly addr: Addr;
  readonly mac: Uint8Array | undefined;
  /** NUD_*. */
  readonly state: number;
}

export interface NeighborSources {
  /** Throws what a fault that is asked for refuses. */
  readonly ask: (does: "add" | "delete", object: string) => void;
  readonly hasLink: (index: number) => boolean;
}

export class FakeNeighbors {
  readonly #sources: NeighborSources;
  #neighbors: FakeNeighbor[] = [];

  constructor(sources: NeighborSources) {
    this.#sources = sources;
  }

  /** RTM_NEWNEIGH. */
  add(body: Span, flags: number): Answer {
    const family = familyAt(body);
    const attributes = body.after(wire.NDMSG)?.attributes();
    const index = body.u32(4) ?? 0;
    const addr = required(addrAt(attributes, wire.NDA_DST, family));
    this.#sources.ask("add", `neighbour ${addr}`);
    if (!this.#sources.hasLink(index)) refuse(ENODEV);
    const there = this.#neighbors.findIndex((one) => one.index === index && one.addr === addr);
    if (there < 0 && (flags & NLM_F_CREATE) === 0) refuse(ENOENT);
    if (there >= 0 && (flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    const neighbor = { index, addr, mac: attributes?.get(wire.NDA_LLADDR)?.copy(), state: body.u16(8) ?? 0 };
    if (there >= 0) this.#neighbors[there] = neighbor;
    else this.#neighbors.push(neighbor);
    return { kind: "done" };
  }

  /** RTM_DELNEIGH. */
  delete(body: Span): Answer {
    const addr = required(addrAt(body.after(wire.NDMSG)?.attributes(), wire.NDA_DST, familyAt(body)));
    const index = body.u32(4) ?? 0;
    this.#sources.ask("delete", `neighbour ${addr}`);
    if (!this.#sources.hasLink(index)) refuse(ENODEV);
    const at = this.#neighbors.findIndex((one) => one.index === index && one.addr === addr);
    if (at < 0) refuse(ENOENT);
    this.#neighbors.splice(at, 1);
    return { kind: "done" };
  }

  /** RTM_GETNEIGH. */
  list(body: Span, isDump: boolean): Answer {
    const family = familyAt(body);
    if (!isDump) unmodelled("a question about one neighbour");
    const parts = this.#neighbors
      .filter(({ addr }) => familyOf(addr) === family)
      .map(({ index, addr, mac, state }) => ({
        type: wire.RTM_NEWNEIGH,
        body: (w: Writer) => {
          const at = w.header(wire.NDMSG);
          w.putU8(at, wire.ADDRESS_FAMILY[family]);
          w.putU32(at + 4, index);
          w.putU16(at + 8, state);
          w.bytesOf(wire.NDA_DST, addrBytes(addr));
          if (mac !== undefined) w.bytesOf(wire.NDA_LLADDR, mac);
        },
      }));
    return { kind: "dump", parts };
  }

  /** Those of a link that went down. */
  drop(link: number): void {
    this.#neighbors = this.#neighbors.filter(({ index }) => index !== link);
  }
}
