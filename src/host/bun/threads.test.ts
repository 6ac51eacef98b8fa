import { expect, test } from "bun:test";
import { startCallThread, startListThread } from "./threads.ts";

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

test("the thread of calls makes them, and a process that has nothing else to do ends with it", async () => {
  const program = `
    import { startCallThread } from "${import.meta.dir}/threads.ts";
    const answer = Promise.withResolvers();
    const thread = startCallThread({ received: answer.resolve, ended: answer.resolve });
    const turns = setInterval(() => {}, 10);
    // bpf(2) has no such command, or is forbidden.
    thread.send(JSON.stringify({ id: 7, command: 999, attributes: "AAAAAA==", pointers: [] }));
    console.log(await answer.promise);
    clearInterval(turns);
  `;
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
  const { id, result } = JSON.parse(await new Response(child.stdout).text()) as { id: number; result: number };
  expect([id, [-1, -22].includes(result)]).toEqual([7, true]);
  expect(await child.exited).toBe(0);
});

test("a bug in the thread of calls ends it, and its cause is told", async () => {
  const ended = Promise.withResolvers<string>();
  startCallThread({ received: () => {}, ended: ended.resolve }).send("no JSON");
  expect(await ended.promise).toContain("JSON");
});
