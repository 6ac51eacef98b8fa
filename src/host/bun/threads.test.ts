import { expect, test } from "bun:test";
import { startListThread } from "./threads.ts";

test("the thread of lists runs, answers, and ends when it is closed", async () => {
  const answer = Promise.withResolvers<string>();
  const ended: string[] = [];
  const thread = startListThread({ received: answer.resolve, ended: (cause) => ended.push(cause) });
  // A port that nobody listens on: the answer is an error, and proves that the store of the thread works.
  const access = { server: "http://127.0.0.1:1" };
  thread.send(JSON.stringify({ type: "open", access, group: "projectcalico.org/v3", node: "n1" }));
  thread.send(JSON.stringify({ type: "list", id: 1, kind: "Pod" }));
  expect(JSON.parse(await answer.promise)).toMatchObject({
    type: "failed",
    id: 1,
    error: { reason: "unavailable", kind: "Pod", message: expect.stringContaining("cannot reach http://127.0.0.1:1") },
  });
  thread.close();
  await Bun.sleep(0);
  expect(ended).toEqual([]);
});

test("a bug in the thread ends it, and its cause is told once", async () => {
  const ended = Promise.withResolvers<string>();
  let times = 0;
  const thread = startListThread({
    received: () => {},
    ended: (cause) => {
      times++;
      ended.resolve(cause);
    },
  });
  thread.send("no JSON");
  expect(await ended.promise).toContain("JSON");
  thread.send("nobody is there");
  await Bun.sleep(0);
  expect(times).toBe(1);
});
