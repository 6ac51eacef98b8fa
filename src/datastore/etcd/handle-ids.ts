/**
 * Handle ids: the handles whose text is not the name of their object, because it has capitals or other characters: etcd's keys have the
 * text. They are found by one look at all keys, and afterwards as they are read and written: a node asks for handles that it made.
 */
import type { EtcdClient } from "./client.ts";
import { handleOfPath, spanOf } from "./keys.ts";
import { encodeKey } from "./values.ts";

const PAGE_SIZE = 10_000;

export class HandleIds {
  readonly #client: EtcdClient;
  readonly #odd = new Map<string, string>();
  #isSearched = false;

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  learn(path: string, name: string): void {
    const handle = handleOfPath(path)?.id;
    if (handle !== undefined && handle !== name) this.#odd.set(name, handle);
  }

  /** The handle of the object; undefined when it is its name. */
  async of(name: string, signal: AbortSignal | undefined): Promise<string | undefined> {
    if (!this.#isSearched) await this.#search(signal);
    return this.#odd.get(name);
  }

  async #search(signal: AbortSignal | undefined): Promise<void> {
    const { from: first, end } = spanOf("IPAMHandle");
    for (let from = encodeKey(first); ;) {
      const request = { key: from, rangeEnd: end, limit: String(PAGE_SIZE), keysOnly: true };
      const page = await this.#client.range({ operation: "list", kind: "IPAMHandle", key: undefined }, request, signal);
      for (const { key } of page.kvs) {
        const path = new TextDecoder().decode(key);
        this.learn(path, handleOfPath(path)?.name ?? "");
      }
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) break;
      from = Uint8Array.of(...last.key, 0);
    }
    this.#isSearched = true;
  }
}
