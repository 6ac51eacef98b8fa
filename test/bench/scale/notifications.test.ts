/** The kernel's transactions as the scale bench reads them. */
import { expect, test } from "bun:test";
import { sys, withNamespaces } from "../../kernel/fixture.ts";
import { CommitReader, openCommits } from "./notifications.ts";

const MSG_DONTWAIT = 0x40;

test("a transaction says whose it was, which tables it touched, and what of them", () => {
  withNamespaces(["commits"], (namespace) => {
    const fd = namespace.enter(() => openCommits(sys));
    namespace.run(
      ["nft", "-f", "-"],
      "table inet a { set s { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 }; }\nchain c { counter; }; }\n",
    );
    namespace.run(["nft", "-f", "-"], "delete element inet a s { 10.0.0.2 }\n");
    const reader = new CommitReader();
    const buffer = new Uint8Array(1 << 20);
    const commits = [];
    for (let length = 1; length > 0;) {
      length = sys.receive(fd, buffer, MSG_DONTWAIT);
      if (length > 0) commits.push(...reader.take(buffer.subarray(0, length), 5));
    }
    sys.close(fd);
    expect(commits.map((commit) => ({ ...commit, pid: 0, keys: commit.keys.toSorted() }))).toEqual([
      {
        atMs: 5,
        pid: 0,
        tables: ["a"],
        messages: 6,
        rulesAdded: 1,
        rulesDeleted: 0,
        elementsAdded: 2,
        elementsDeleted: 0,
        keys: ["0a000001", "0a000002"],
      },
      {
        atMs: 5,
        pid: 0,
        tables: ["a"],
        messages: 1,
        rulesAdded: 0,
        rulesDeleted: 0,
        elementsAdded: 0,
        elementsDeleted: 1,
        keys: ["0a000002"],
      },
    ]);
    expect(new Set(commits.map(({ pid }) => pid)).size).toBe(2);
  });
});
