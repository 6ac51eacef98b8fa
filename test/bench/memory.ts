/** memory: what an idle node daemon takes, beside BIRD: with a second daemon of the same executable beside it, and alone. */
import { type Lab, type LabNode, until } from "../conformance/fixture.ts";
import { digits } from "./figures.ts";
import { memoryOf } from "./processes.ts";

function say(what: string, pid: number): void {
  const { peak, rss, pss, executable } = memoryOf(pid);
  console.log(
    `${what.padEnd(56)} PSS ${digits(pss)} MB  RSS ${digits(rss)} MB, of it ${digits(executable)} MB of files  peak ${digits(peak)} MB`,
  );
}

export async function benchMemory(lab: Lab): Promise<void> {
  console.log("\n== memory of an idle node daemon (aim: PSS under 80 MB)");
  const { nodes, supervisor } = await lab.status();
  const idle = async (node: LabNode): Promise<void> =>
    void (await until("the daemon to be idle", async () => (await lab.daemon(node)).backlog === 0));
  for (const node of nodes) await idle(node);
  for (const node of nodes) say(`${node.name}: calico node, one of ${nodes.length} of its executable`, node.pid);
  const [first, ...others] = nodes;
  if (first === undefined) return;
  // Nobody starts the others again meanwhile.
  process.kill(supervisor.pid, "SIGSTOP");
  try {
    for (const node of others) process.kill(node.pid, "SIGKILL");
    await until("the other daemons to end", async () => {
      const answers = await Promise.all(others.map((node) => lab.daemon(node).catch(() => undefined)));
      return answers.every((answer) => answer === undefined);
    });
    say(`${first.name}: calico node, alone of its executable`, first.pid);
    say(`${first.name}: bird`, first.birdPid);
  } finally {
    process.kill(supervisor.pid, "SIGCONT");
    for (const { name } of others)
      await until(
        `the daemon of ${name} to be back`,
        async () => (await lab.daemon(await lab.node(name)).catch(() => undefined))?.inSync === true,
      );
  }
}
