/** simulate: one world out of one seed: things happen, then all comes to rest, and what must hold is checked. */
import { checkInnocents, refuseRows } from "./culprits.ts";
import { type FaultKind, NO_TROUBLE } from "./faults.ts";
import { checkRest, unusedAddresses } from "./invariants.ts";
import { tamper, checkRepairs } from "./tamper.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly seed: number;
  /** undefined: everything held. */
  readonly violation: string | undefined;
  readonly digest: string;
  readonly world: World;
}

/** Worlds that are disturbed anew after they came to rest: one in so many. */
const TWO_ROUNDS_IN = 8;
/** Worlds of which at last every address is given to a pod: so many of four, those among them in which nodes share blocks. */
const FILLED_OF_4 = 2;
/** Fewer than the addresses of the pools that are never disabled: what nobody uses must come free. */
const MOST_PODS = { wide: 13, tight: 9 };
const MOST_AT_ONCE = { wide: 4, tight: 4 };
/** Some. */
const OPERATIONS_OF_ADD = 300;
const GAP_MS = 2_500;
/** What a kubelet gives the container. */
const TERMINATION_MS = 30_000;
const GC_TRIES = 30;
/** Until what DEL promised has come. */
const DUE_MS = 30_000;
const SETTLE_MS = 300_000;
/** Two looks for leaks, a pass over the blocks, routes that linger, an audit. */
const REST_MS = 65_000;

/** Runs the seed to its end, or to the first violation. `steps`: things that happen before all comes to rest. */
export async function simulate(seed: number, faults: readonly FaultKind[], steps: number): Promise<Outcome> {
  const world = new World(seed, faults);
  current = world;
  try {
    await world.begin();
    await world.clock.advance(3_000);
    const rounds = seed % TWO_ROUNDS_IN === 0 ? 2 : 1;
    for (let round = 0; round < rounds && world.violation === undefined; round++) {
      await disturb(world, steps);
      await calm(world);
      await checkInnocents(world);
      await comeToRest(world);
    }
    if (seed % 4 < FILLED_OF_4) await fillPools(world);
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

async function disturb(world: World, steps: number): Promise<void> {
  world.quiet = false;
  for (let step = 0; step < steps && world.violation === undefined; step++) {
    await act(world);
    await world.clock.advance(world.choices.below(GAP_MS));
  }
}

async function act(world: World): Promise<void> {
  const { choices } = world;
  const pods = world.runtimes.reduce((sum, { pods: some }) => sum + some.size, 0);
  const dice = choices.below(100);
  const size = world.tight ? "tight" : "wide";
  if (dice < 32)
    return pods <= MOST_PODS[size] - MOST_AT_ONCE[size] ? createPods(world, MOST_AT_ONCE[size]) : world.deletePod();
  if (dice < 42) {
    for (let i = world.tight ? 3 : 1; i > 0; i--) await world.deletePod();
    return;
  }
  if (dice < 54) return world.changePolicy();
  if (dice < 57) return world.relabelNamespace();
  if (dice < 60) return world.switchPool();
  const runtime = choices.pick(world.runtimes);
  if (dice < 63) return void runtime.askAgain();
  if (dice < 67) {
    const pods = [...runtime.pods.values()].filter(({ leaving }) => !leaving);
    if (pods.length > 0) choices.pick(pods).renew(true);
    return;
  }
  await befall(world);
}

/** One, or some at once on one node, whose daemon may not live to see them answered. */
async function createPods(world: World, most: number): Promise<void> {
  const { choices } = world;
  const runtime = choices.pick(world.runtimes);
  if (world.faults.has("kill") && choices.chance(50))
    runtime.node.killAt = runtime.node.operations + 1 + choices.below(OPERATIONS_OF_ADD);
  const count = choices.chance(world.tight ? 80 : 30) ? 2 + choices.below(most - 1) : 1;
  // Nodes that share blocks are made to meet there.
  for (let i = 0; i < count; i++) await world.createPod(world.tight ? choices.pick(world.runtimes) : runtime);
}

/** One of the faults of this world begins, or ends. */
async function befall(world: World): Promise<void> {
  const { choices, faults } = world;
  if (faults.size === 0) return;
  const fault = choices.pick([...faults]);
  const runtime = choices.pick(world.runtimes);
  const { node } = runtime;
  switch (fault) {
    case "store":
      return befallStore(world);
    case "kill":
      if (choices.chance(25)) {
        world.say(`${node.name} daemon is asked to end`);
        return void node.terminate(TERMINATION_MS);
      }
      node.killAt = node.operations + 1 + choices.below(choices.pick([40, 400, 2000]));
      return world.say(`${node.name} daemon will be killed before operation ${node.killAt}`);
    case "disk":
      node.disk.takes = choices.pick(["everything", "nothing new", "nothing"] as const);
      world.say(`${node.name} disk takes ${node.disk.takes}`);
      if (node.disk.takes !== "everything" && choices.chance(50)) await world.deletePod(runtime);
      return;
    case "kernel": {
      const percent = choices.pick([0, 2, 15]);
      node.refusesPercent = percent;
      return world.say(`${node.name} kernel refuses ${percent} of a hundred requests`);
    }
    case "reboot":
      return world.reboot(runtime);
    case "runtime":
      void runtime.collect();
      return;
    case "others":
      return void tamper(world, node);
    case "rows":
      return refuseRows(world, runtime);
    case "pools":
      return world.removePool();
  }
}

async function befallStore(world: World): Promise<void> {
  const { choices } = world;
  const some = (most: number): number => (choices.chance(50) ? choices.below(most) : 0);
  const what = choices.below(5);
  if (what === 0) {
    world.store.dropWatches(choices.pick(["server", "gone", "unavailable"] as const));
    // Nobody is told of it: who lists again must see that it is gone.
    if (choices.chance(60)) await world.vanish();
  }
  if (what === 1) {
    await world.admitEverybody();
    await world.clock.advance(1_000);
    world.store.dropWatches("unavailable");
    await world.vanish();
    world.store.compact();
  }
  if (what === 4) return world.setReady(choices.chance(50));
  world.trouble =
    what === 3 ? NO_TROUBLE : { unreached: some(40), answerLost: some(25), slow: some(30), watchBroken: some(20) };
  world.say(
    `datastore: ${["watches end", "history is forgotten", "requests fail", "well again"][what]} ${JSON.stringify(world.trouble)}`,
  );
}

/** Nothing else is wrong any more than what kernels refuse of culprits. */
async function calm(world: World): Promise<void> {
  if (world.violation !== undefined) return;
  world.quiet = true;
  world.trouble = NO_TROUBLE;
  await world.setReady(true);
  await world.restorePools();
  for (const node of world.nodes) {
    node.killAt = undefined;
    node.disk.takes = "everything";
    // What the kernel refused is tried again with backoff.
    if (node.refusesPercent > 0 && node.tamperedAtMs !== undefined) node.tamperedAtMs = Infinity;
    node.refusesPercent = 0;
  }
  // What DEL promised comes without GC.
  for (let waited = 0; world.isReleasing && world.violation === undefined && waited < DUE_MS; waited += 1_000)
    await world.clock.advance(1_000);
  // What was forgotten keeps its addresses until then.
  if (!(await collectAll(world))) return;
}

/** Nothing is wrong any more: all must come to rest, and then hold. */
async function comeToRest(world: World): Promise<void> {
  if (world.violation !== undefined) return;
  world.say("all is well again");
  for (const node of world.nodes) node.refused = undefined;
  const isBusy = (): boolean => world.runtimes.some(({ busy }) => busy);
  for (let waited = 0; isBusy() && waited < SETTLE_MS; waited += 1_000) await world.clock.advance(1_000);
  if (isBusy())
    return world.violate(`pods are not on the network, or not gone, after ${SETTLE_MS / 1000} s: ${waiting(world)}`);
  if (!(await collectAll(world))) return;
  await world.clock.advance(REST_MS);
  const checked = checkRest(world);
  if (!(await world.clock.until(checked, SETTLE_MS))) return world.violate("CHECK is not answered");
  for (const wrong of await checked) world.violate(wrong);
  if (world.faults.has("others") && world.violation === undefined) await checkRepairs(world);
}

/** Every address that no pod has is there for one that needs it, whoever's reserve it was in, or is forgotten in. */
async function fillPools(world: World): Promise<void> {
  if (world.violation !== undefined) return;
  const { choices, runtimes } = world;
  const free = await unusedAddresses(world);
  world.say(`pods for all of ${free} unused addresses of each family`);
  for (let i = 0; i < free; i++) await world.createPod(choices.pick(runtimes));
  const isBusy = (): boolean => runtimes.some(({ busy }) => busy);
  for (let waited = 0; isBusy() && waited < SETTLE_MS; waited += 1_000) await world.clock.advance(1_000);
  if (isBusy())
    world.violate(`pods wait for addresses that nobody has, after ${SETTLE_MS / 1000} s: ${waiting(world)}`);
}

/** False when a daemon does not do it. */
async function collectAll(world: World): Promise<boolean> {
  for (const runtime of world.runtimes) {
    // A daemon may be between two lives.
    let done = false;
    for (let tries = 0; !done && tries < GC_TRIES; tries++) {
      const collected = runtime.collect();
      done = (await world.clock.until(collected, SETTLE_MS)) && (await collected);
      if (!done) await world.clock.advance(1_000);
    }
    if (done) continue;
    world.violate(`GC on ${runtime.node.name} does not succeed`);
    return false;
  }
  return true;
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
