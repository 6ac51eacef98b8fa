/**
 * Claims: how a node becomes the owner of a block, and releases it.
 *
 * Claiming: create the affinity as `pending`, create the block with the owner in it, set the affinity to `confirmed`. The creation of the
 * block decides, because it succeeds only once. An affinity that is pending, or left by a crash at any step, has no effect until its node
 * next processes it. Releasing is the reverse: set `pendingDeletion`, delete the block, delete the affinity.
 * Upstream: libcalico-go/lib/ipam/ipam_block_reader_writer.go.
 */
import type { Report } from "../lib/report.ts";
import type { Store } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import { formatKey } from "../model/key.ts";
import type { BlockAffinitySpec } from "../model/kinds/ipam.ts";
import type { Resource } from "../model/resource.ts";
import type { Addr, Family } from "../net/addr.ts";
import { parsePrefix, type Prefix, prefixContains, prefixFamily } from "../net/prefix.ts";
import { type Block, blockOf, hostAffinity, isEmpty, newBlock } from "./block.ts";
import { affinityLabels, affinityLabelsOf } from "../model/affinity.ts";
import { affinityKey, blockKey } from "./names.ts";
import { unlessLost } from "./retry.ts";

/** An affinity of a node, and its block. */
export interface Affinity {
  readonly prefix: Prefix;
  readonly resource: Resource<"BlockAffinity">;
}

export class Claims {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #report: Report;
  /** Blocks that existed when they were last read here. */
  readonly #seen = new Set<Prefix>();

  constructor(store: Store, clock: Clock, report: Report) {
    this.#store = store;
    this.#clock = clock;
    this.#report = report;
  }

  /** The stored block; `unusable` when it is malformed (reported). Finishes a deletion that upstream's client began. */
  async readBlock(prefix: Prefix): Promise<Block | "absent" | "unusable"> {
    const found = await this.#store.get(blockKey(prefix));
    if (found === undefined) {
      this.#seen.delete(prefix);
      return "absent";
    }
    this.#seen.add(prefix);
    if (found.spec.deleted === true) {
      await unlessLost(this.#store.delete(blockKey(prefix), { revision: found.metadata.resourceVersion ?? "" }));
      return "absent";
    }
    const block = blockOf(found);
    if (block.ok) return block.value;
    this.#report("a block is ignored because it is malformed", { block: found.metadata.name, error: block.error });
    return "unusable";
  }

  /** A block that contains the address and existed when it was last read here; no request is made. */
  seen(addr: Addr): Prefix | undefined {
    return [...this.#seen].find((prefix) => prefixContains(prefix, addr));
  }

  /** All affinities of the node, in any state, by name. */
  async affinities(node: string, family: Family): Promise<Affinity[]> {
    const { items } = await this.#store.list("BlockAffinity", { labels: affinityLabels(node, family) });
    return items.flatMap((resource) => {
      const prefix = parsePrefix(String(resource.spec.cidr));
      const ours = resource.spec.node === node && resource.spec.type !== "virtual";
      return prefix.ok && ours && prefixFamily(prefix.value) === family ? [{ prefix: prefix.value, resource }] : [];
    });
  }

  /**
   * The node's block of an affinity, after repairing what a crash left: a claim that was begun is finished, an affinity to a block that
   * another node owns is deleted. undefined: the node has no such block.
   */
  async settle(node: string, affinity: Affinity): Promise<Block | undefined> {
    const block = await this.readBlock(affinity.prefix);
    if (block === "unusable") return undefined;
    const state = affinity.resource.spec.state ?? "confirmed";
    if (
      block !== "absent" &&
      block.spec.affinity === hostAffinity(node) &&
      state === "confirmed" &&
      affinity.resource.spec.deleted !== true
    )
      return block;
    return this.claim(node, affinity.prefix);
  }

  /** Makes the node the owner of the block. undefined when another one owns it, or the race is not decided yet. */
  async claim(node: string, prefix: Prefix): Promise<Block | undefined> {
    const affinity = await this.#begin(node, prefix);
    if (affinity === undefined) return undefined;
    const created = await unlessLost(this.#store.create("IPAMBlock", newBlock(prefix, node, this.#clock.wallMs())));
    const found = created === undefined ? await this.readBlock(prefix) : blockOf(created);
    const block = typeof found === "object" && "ok" in found ? (found.ok ? found.value : "unusable") : found;
    if (block === "absent" || block === "unusable") return undefined;
    if (block.spec.affinity !== hostAffinity(node)) {
      await unlessLost(this.#deleteAffinity(affinity));
      return undefined;
    }
    return (await this.#confirm(node, affinity)) ? block : undefined;
  }

  /**
   * Releases a node's ownership of an empty block. With `sequence`, only if the block is unchanged since it was read. Returns whether the
   * block is gone.
   */
  async release(node: string, prefix: Prefix, sequence?: number): Promise<boolean> {
    const key = affinityKey(node, prefix);
    const affinity = await this.#store.get(key);
    const block = await this.readBlock(prefix);
    if (block === "unusable") return false;
    const stale = block === "absent" || block.spec.affinity !== hostAffinity(node);
    if (stale) {
      if (affinity !== undefined) await unlessLost(this.#deleteAffinity(affinity));
      return block === "absent";
    }
    if (!isEmpty(block.spec) || (sequence !== undefined && sequence !== block.spec.sequenceNumber)) return false;
    const leaving =
      affinity === undefined
        ? undefined
        : await unlessLost(this.#store.update("BlockAffinity", withSpec(affinity, { state: "pendingDeletion" })));
    if (affinity !== undefined && leaving === undefined) return false;
    const deleted = await unlessLost(
      this.#store
        .delete(blockKey(prefix), { revision: block.resource.metadata.resourceVersion ?? "" })
        .then(() => true),
    );
    if (leaving === undefined) return deleted === true;
    // The owner took an address meanwhile: it keeps the block.
    if (deleted === undefined)
      await unlessLost(this.#store.update("BlockAffinity", withSpec(leaving, { state: "confirmed" })));
    else await unlessLost(this.#deleteAffinity(leaving));
    return deleted === true;
  }

  /** The affinity in state pending (or confirmed, if it already is); undefined when another process is changing it. */
  async #begin(node: string, prefix: Prefix): Promise<Resource<"BlockAffinity"> | undefined> {
    const key = affinityKey(node, prefix);
    const wanted: Resource<"BlockAffinity"> = {
      apiVersion: "projectcalico.org/v3",
      kind: "BlockAffinity",
      metadata: { name: key.name, labels: affinityLabelsOf(node, prefix) },
      spec: { state: "pending", node, type: "host", cidr: prefix, deleted: false },
    };
    const found = await this.#store.get(key);
    if (found === undefined) return unlessLost(this.#store.create("BlockAffinity", wanted));
    if (found.spec.node !== node || found.spec.cidr !== prefix) {
      this.#report("an affinity is ignored because its content does not match its name", {
        affinity: formatKey(key),
        node: found.spec.node,
        cidr: found.spec.cidr,
      });
      return undefined;
    }
    if (found.spec.deleted === true) {
      await unlessLost(this.#deleteAffinity(found));
      return unlessLost(this.#store.create("BlockAffinity", wanted));
    }
    if (found.spec.state === "confirmed" || found.spec.state === undefined) return found;
    const labels = { ...found.metadata.labels, ...affinityLabelsOf(node, prefix) };
    return unlessLost(
      this.#store.update("BlockAffinity", {
        ...withSpec(found, { state: "pending" }),
        metadata: { ...found.metadata, labels },
      }),
    );
  }

  async #confirm(node: string, affinity: Resource<"BlockAffinity">): Promise<boolean> {
    if (affinity.spec.state === "confirmed" || affinity.spec.state === undefined) return true;
    const confirmed = await unlessLost(this.#store.update("BlockAffinity", withSpec(affinity, { state: "confirmed" })));
    if (confirmed !== undefined) return true;
    // Another process of this node may have confirmed it.
    const found = await this.#store.get({ kind: "BlockAffinity", namespace: undefined, name: affinity.metadata.name });
    return found?.spec.node === node && found.spec.state === "confirmed";
  }

  async #deleteAffinity(affinity: Resource<"BlockAffinity">): Promise<void> {
    await this.#store.delete(
      { kind: "BlockAffinity", namespace: undefined, name: affinity.metadata.name },
      { revision: affinity.metadata.resourceVersion ?? "" },
    );
  }
}

function withSpec(affinity: Resource<"BlockAffinity">, change: Partial<BlockAffinitySpec>): Resource<"BlockAffinity"> {
  return { ...affinity, spec: { ...affinity.spec, ...change } };
}
