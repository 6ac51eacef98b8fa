/** all: every exchange, in order, and what is removed afterwards. */
import type { Recorder } from "../recorder.ts";
import { builtInKinds } from "./built-in.ts";
import { customKinds } from "./custom.ts";
import { discovery } from "./discovery.ts";
import { kubectlSessions } from "./kubectl.ts";
import { lists } from "./lists.ts";
import { DEFINITIONS, placesOf } from "./places.ts";
import { refusals } from "./refusals.ts";
import { writes } from "./writes.ts";

/** Carries out all exchanges; rejects when the server does not do what they are built on. Removes what it made. */
export async function exchangeAll(recorder: Recorder): Promise<void> {
  const places = placesOf(recorder);
  const namespaces = places.all("namespaces");
  try {
    await recorder.request("create a namespace", "POST", namespaces, {
      body: { apiVersion: "v1", kind: "Namespace", metadata: { name: places.namespace } },
    });
    await recorder.until(`${places.in("serviceaccounts")}/default`, 200);
    await recorder.request("its service account", "GET", `${places.in("serviceaccounts")}/default`);
    await discovery(recorder, places);
    await refusals(recorder, places);
    await writes(recorder, places);
    await builtInKinds(recorder, places);
    await lists(recorder, places);
    await customKinds(recorder, places);
    await kubectlSessions(recorder, places);
  } finally {
    await recorder.send("DELETE", `${places.all("customresourcedefinitions", DEFINITIONS)}/widgets.${places.group}`);
    for (const name of [places.namespace, places.kubectlNamespace])
      await recorder.send("DELETE", `${namespaces}/${name}`);
    await recorder.send("DELETE", `${places.all("nodes")}/contract-${recorder.suffix}`);
  }
}
