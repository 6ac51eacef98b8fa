/** simulate: one world out of one seed: things happen, then all comes to rest, and what must hold is checked. */
import { ENOBUFS, EBUSY } from "../../src/kernel/errno.ts";
import { type FaultKind, NO_TROUBLE } from "./faults.ts";
import { checkRest } from "./invariants.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly seed: number;
  /** undefined: everything held. */
  readonly violation: string | undefined;
  readonly digest: string;
  readonly world: World;
}

const ENOMEM = 12;
/** Worlds that are disturbed anew after they came to rest: one in so many. */
const TWO_ROUNDS_IN = 4;
const STEPS = 18;
const MOST_PODS = 10;
const GAP_MS = 2_500;
/** Until every pod is on the network once nothing is wrong any more: longer than the longest of the product's retries, several times. */
const GC_TRIES = 30;
const SETTLE_MS = 300_000;
/** Two looks for leaks, a pass over the blocks, routes that linger, an audit. */
const REST_MS = 75_000;

/** Runs the seed to its end, or to the first violation. */
export async function simulate(seed: number, faults: readonly FaultKind[]): Promise<Outcome> {
  const world = new World(seed, faults);
  current = world;
  try {
    await world.begin();
    await world.clock.advance(3_000);
    const rounds = seed % TWO_ROUNDS_IN === 0 ? 2 : 1;
    for (let round = 0; round < rounds && world.violation === undefined; round++) {
      await disturb(world);
      await comeToRest(world);
    }
  } catch (error) {
    world.mistake(error);
  }
  world.end();
  await world.clock.advance(1);
  return { seed, violation: world.violation?.message, digest: world.history.digest, world };
}

/** The world that runs: what nobody catches is its fault. */
let current: World | undefined;

export function blame(error: unknown): void {
  current?.mistake(error);
}

async function disturb(world: World): Promise<void> {
  world.quiet = false;
  for (let step = 0; step < STEPS && world.violation === undefined; step++) {
    await act(world);
    await world.clock.advance(world.choices.below(GAP_MS));
  }
}

async function act(world: World): Promise<void> {
  const { choices } = world;
  const pods = world.runtimes.reduce((sum, { pods: some }) => sum + some.size, 0);
  const dice = choices.below(100);
  if (dice < 30) return pods < MOST_PODS ? world.createPod() : world.deletePod();
  if (dice < 42) return world.deletePod();
  if (dice < 54) return world.changePolicy();
  if (dice < 58) return world.relabelNamespace();
  befall(world);
}

/** One of the faults of this world begins, or ends. */
function befall(world: World): void {
  const { choices, faults } = world;
  if (faults.size === 0) return;
  const fault = choices.pick([...faults]);
  const runtime = choices.pick(world.runtimes);
  const { node } = runtime;
  switch (fault) {
    case "store":
      return befallStore(world);
    case "kill":
      node.killAt = node.operations + 1 + choices.below(choices.pick([40, 400, 2000]));
      return world.say(`${node.name} daemon will be killed before operation ${node.killAt}`);
    case "disk":
      node.disk.takes = choices.pick(["everything", "nothing new", "nothing"] as const);
      return world.say(`${node.name} disk takes ${node.disk.takes}`);
    case "kernel": {
      const percent = choices.pick([0, 2, 15]);
      node.kernel.faults = {
        request: () => (choices.chance(percent) ? choices.pick([ENOMEM, EBUSY]) : undefined),
        call: (name) => (name === "recv" && percent > 0 && choices.below(1000) < percent ? ENOBUFS : undefined),
      };
      return world.say(`${node.name} kernel refuses ${percent} of a hundred requests`);
    }
    case "reboot":
      return world.reboot(runtime);
    case "runtime":
      void runtime.collect();
      return;
    case "rows":
      return refuseRows(world, runtime);
  }
}

function befallStore(world: World): void {
  const { choices } = world;
  const some = (most: number): number => (choices.chance(50) ? choices.below(most) : 0);
  const what = choices.below(4);
  if (what === 0) world.store.dropWatches(choices.pick(["server", "gone", "unavailable"] as const));
  if (what === 1) world.store.compact();
  world.trouble =
    what === 3 ? NO_TROUBLE : { unreached: some(40), answerLost: some(25), slow: some(30), watchBroken: some(20) };
  world.say(
    `datastore: ${["watches end", "history is forgotten", "requests fail", "well again"][what]} ${JSON.stringify(world.trouble)}`,
  );
}

/** From now on the kernel takes nothing of one pod. */
function refuseRows(world: World, { node, pods }: World["runtimes"][number]): void {
  const names = [...pods.keys()];
  if (names.length === 0) return;
  const culprit = world.choices.pick(names);
  world.say(`${node.name} kernel takes no chain of pod ${culprit}`);
  node.kernel.faults = {
    request: ({ subsystem, does, object }) =>
      subsystem === "nftables" && does === "add" && /^chain cali-[ft]w-/.test(object) && object.length % 2 === 0
        ? ENOMEM
        : undefined,
  };
}

/** Nothing is wrong any more: all must come to rest, and then hold. */
async function comeToRest(world: World): Promise<void> {
  if (world.violation !== undefined) return;
  world.say("all is well again");
  world.quiet = true;
  world.trouble = NO_TROUBLE;
  for (const node of world.nodes) {
    node.killAt = undefined;
    node.disk.takes = "everything";
    node.kernel.faults = {};
  }
  const isBusy = (): boolean => world.runtimes.some(({ busy }) => busy);
  for (let waited = 0; isBusy() && waited < SETTLE_MS; waited += 1_000) await world.clock.advance(1_000);
  if (isBusy())
    return world.violate(`pods are not on the network, or not gone, after ${SETTLE_MS / 1000} s: ${waiting(world)}`);
  for (const runtime of world.runtimes) {
    // A daemon may be between two lives.
    let done = false;
    for (let tries = 0; !done && tries < GC_TRIES; tries++) {
      const collected = runtime.collect();
      done = (await world.clock.until(collected, SETTLE_MS)) && (await collected);
      if (!done) await world.clock.advance(1_000);
    }
    if (!done) return world.violate(`GC on ${runtime.node.name} does not succeed`);
  }
  await world.clock.advance(REST_MS);
  const checked = checkRest(world);
  if (!(await world.clock.until(checked, SETTLE_MS))) return world.violate("CHECK is not answered");
  for (const wrong of await checked) world.violate(wrong);
}

function waiting(world: World): string {
  return world.runtimes
    .flatMap(({ node, pods }) =>
      [...pods.values()].flatMap(({ key, leaving, sandbox }) =>
        leaving || sandbox?.addresses === undefined
          ? [`${key.name} on ${node.name}${leaving ? " (leaving)" : ""}`]
          : [],
      ),
    )
    .join(", ");
}
