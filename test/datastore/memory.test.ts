/** The store contract for the memory store. */
import { MemoryStore } from "../../src/datastore/memory.ts";
import { storeContract } from "./contract.ts";

storeContract("memory", async () => {
  const store = new MemoryStore({ pageSize: 2 });
  return { store, close: () => store.close(), compact: async () => store.compact() };
});
