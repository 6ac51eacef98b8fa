/** block-planner: blocks of records: an equal one is the same, a new one is put where there is room, and one that nobody uses goes. */
import { ENOSPC, KernelError } from "../../kernel/errno.ts";
import type { Changes } from "./changes.ts";
import { type Block, contentOf, freeRanges, type Image } from "./image.ts";
import { RECORD_BYTES } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

export class BlockPlanner {
  readonly #image: Image;
  readonly #maps: DataplaneMaps;
  readonly #changes: Changes;
  readonly #newBlocks = new Map<string, Block>();
  #free: { from: number; readonly to: number }[] | undefined;

  constructor(image: Image, maps: DataplaneMaps, changes: Changes) {
    this.#image = image;
    this.#maps = maps;
    this.#changes = changes;
  }

  /** First record of the block; `content`: if it is known. Throws KernelError when there is no room for it. */
  put(
    unit: string,
    { kind, text, records }: Pick<Block, "kind" | "text" | "records">,
    content = contentOf(kind, text, records),
  ): { readonly content: string; readonly start: number } {
    const known = this.#image.blocks.get(content) ?? this.#newBlocks.get(content);
    if (known !== undefined) return { content, start: known.start };
    const [maps, changes, image] = [this.#maps, this.#changes, this.#image];
    const count = records.length / RECORD_BYTES;
    const start = this.#allocate(count);
    const block = { kind, start, text, records, since: changes.next };
    this.#newBlocks.set(content, block);
    changes.note("+", `${kind} ${text.split("\0")[0]} (${count} records)`);
    const run = (): void => {
      maps.writeRecords(start, records);
      maps.writeObject(kind, start, text, count);
    };
    changes.prepare.push({ unit, run });
    changes.apply.push(() => image.blocks.set(content, block));
    return { content, start };
  }

  #allocate(count: number): number {
    this.#free ??= freeRanges(this.#image, this.#maps.records.definition.maxEntries);
    const range = this.#free.find(({ from, to }) => to - from >= count);
    if (range === undefined) throw new KernelError("find room for", `${count} records`, ENOSPC);
    range.from += count;
    return range.from - count;
  }

  remove(content: string): void {
    const [maps, changes, image] = [this.#maps, this.#changes, this.#image];
    const found = image.blocks.get(content);
    if (found === undefined) return;
    const { kind, start, text } = found;
    changes.isSwitched = true;
    changes.note("-", `${kind} ${text.split("\0")[0]}`);
    changes.clean.push(() => maps.removeObject(kind, start, text));
    changes.apply.push(() => image.blocks.delete(content));
  }
}
