/** The stage of the scale bench: that nothing of it stays, though its run was killed. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { isAlive, identify } from "../../../lab/cluster/daemon.ts";
import { removeAbandoned, removeStage, Stage } from "./stage.ts";

/** Makes a stage with a process in it, says both and waits. */
const RUN = `
import { spawnIn } from "${import.meta.dir}/../../../lab/cluster/cgroup.ts";
import { makeStage } from "${import.meta.dir}/stage.ts";
const stage = makeStage();
const child = spawnIn(stage.cgroup, () => Bun.spawn(["sleep", "1000"]));
console.log(stage.id, child.pid);
setInterval(() => {}, 1000);
`;

test("what a run leaves that was killed is removed by the next one", async () => {
  const run = Bun.spawn([process.execPath, "-e", RUN], { stdout: "pipe", stderr: "inherit" });
  const { value } = await run.stdout.getReader().read();
  const [id = "", pid = ""] = new TextDecoder().decode(value).trim().split(" ");
  try {
    const stage = new Stage(id);
    const process = identify(Number(pid));
    const left = (): readonly boolean[] => [
      existsSync(stage.netns("node")),
      existsSync(stage.netns("world")),
      existsSync(stage.directory),
      process !== undefined && isAlive(process),
    ];
    expect(left()).toEqual([true, true, true, true]);
    await removeAbandoned();
    expect(left()).toEqual([true, true, true, true]);
    run.kill("SIGKILL");
    await run.exited;
    await removeAbandoned();
    expect(left()).toEqual([false, false, false, false]);
  } finally {
    run.kill("SIGKILL");
    await removeStage(id);
  }
});
