/** Whole list: joins the pages of a list, for lists that are short. */
import type { Kind } from "../model/kind.ts";
import type { Resource } from "../model/resource.ts";
import type { ListPage, ListResult } from "./store.ts";

export async function wholeList<K extends Kind>(pages: AsyncIterable<ListPage<K>>): Promise<ListResult<K>> {
  let items: Resource<K>[] = [];
  let revision = "";
  for await (const page of pages) {
    if (page.isFirst) items = [];
    for (const item of page.items) items.push(item);
    revision = page.revision;
  }
  return { items, revision };
}
